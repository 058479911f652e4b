// Convolutions that skip zeros: float32, any pattern of zeros, one source for AVX2, AVX-512 and NEON.
//
// Outputs are computed in tiles of R rows x V vectors of L columns. For each tile and each block of input planes:
//   1. pack: copy what the tile reads into a small buffer that stays in the first cache. A plane is one channel, shifted
//      by one column tap, with every stride-th column; padding is zeros in it. So every tap of the kernel reads its T =
//      R * V vectors from one aligned address, whatever stride, padding and dilation are.
//   2. for each filter, for each of its weights that is not zero: accumulators[0..T) += weight * buffer[offset..offset + T).
// Sums wait in memory between the blocks of planes. After the last one: residual, activation, and out.
//
// No torch, no C++ library, no memory allocated: Python fills Work, and gives scratch memory and the threads.
#include <cstdint>
#include <cstring>

// Floats of the widest vector, and how many vectors the registers hold.
#if defined(__AVX512F__)
enum { LANES = 16, REGISTERS = 32 };
#elif defined(__AVX__)
enum { LANES = 8, REGISTERS = 16 };
#elif defined(__aarch64__)
enum { LANES = 4, REGISTERS = 32 };
#else
enum { LANES = 4, REGISTERS = 16 };
#endif

namespace {

template <int L> struct Vector;
template <> struct Vector<4> {
  typedef float type __attribute__((vector_size(16)));
  typedef int32_t places __attribute__((vector_size(16)));
};
template <> struct Vector<8> {
  typedef float type __attribute__((vector_size(32)));
  typedef int32_t places __attribute__((vector_size(32)));
};
template <> struct Vector<16> {
  typedef float type __attribute__((vector_size(64)));
  typedef int32_t places __attribute__((vector_size(64)));
};

inline int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

template <class V> inline V load(const float* from) { V v; memcpy(&v, from, sizeof v); return v; }
template <class V> inline void store(float* to, V v) { memcpy(to, &v, sizeof v); }

typedef void (*Parallel)(void (*)(void*), void*, unsigned, unsigned);  // GOMP_parallel of the OpenMP that torch uses

}  // namespace

extern "C" struct Work {
  // Tensors: strides in floats, in the order images, channels, rows, columns.
  const float *x, *bias, *residual;
  float *y, *scratch;
  int64_t x_floats;  // readable from x on
  int64_t x_strides[4], y_strides[4];
  int32_t images, height, width, out_height, out_width;
  int32_t stride_height, stride_width, activation;
  // The tile: rows, vectors in a row, lanes of a vector, and how many units (blocks of one image) share its vectors.
  int32_t rows, vectors, lanes, shared;
  // What a plane holds: as many rows as `plane_rows`; row i of it is the input's row `row_steps[i]` after the tile's first.
  int32_t plane_rows, blocks, chunks, threads;
  const int32_t *row_steps;
  const int32_t *planes;                     // (planes, 2): channel, and the first column's distance from the tile's
  const int32_t *block_planes, *block_runs;  // (blocks + 1): the first plane and the first run of each block
  const int32_t *run_filters;                // (runs): 4 * filter + 2 if it is the filter's last run + 1 if its first
  const int32_t *run_entries;                // (runs + 1): the first entry of each run
  const uint16_t *offsets;                   // (entries): vectors from the start of the buffer
  const float *weights;                      // (entries)
  const int32_t *chunk_filters;              // (chunks + 1): the first filter of each chunk, which is one thread's
  int64_t buffer_floats, scratch_floats;     // of one thread: the packed planes; these and the sums
  Parallel parallel;
  int32_t next_task, next_thread;            // counters of one call
};

namespace {

struct Unit {  // a block of one image's outputs
  int64_t start, at;  // of its image in x, and of its first output in y: filter 0's
  int32_t top, left, rows, columns;  // rows and columns that exist; 0 if the unit does not
};

template <int L> struct Tile {
  typedef typename Vector<L>::type V;
  const Work& work;
  int32_t width;  // columns of a unit
  Unit units[L];
  typename Vector<L>::places places;

  explicit Tile(const Work& w) : work(w), width(w.vectors * L / w.shared) {
    for (int32_t i = 0; i < L; i++) places[i] = i;
  }

  void place(int64_t index) {
    const int32_t down = (work.out_height + work.rows - 1) / work.rows, across = (work.out_width + width - 1) / width;
    for (int32_t i = 0; i < work.shared; i++) {
      const int64_t unit = index * work.shared + i, image = unit / (down * across);
      const int32_t top = unit / across % down * work.rows, left = unit % across * width;
      const bool exists = image < work.images;
      const int32_t rows = work.out_height - top, columns = work.out_width - left;
      units[i] = {image * work.x_strides[0],
                  image * work.y_strides[0] + top * work.y_strides[2] + left * work.y_strides[3], top, left,
                  !exists ? 0 : rows < work.rows ? rows : work.rows, columns < width ? columns : width};
    }
  }

  // Copy what the tile reads of one plane.
  void pack(const int32_t* plane, float* to) const {
    for (int32_t i = 0; i < work.shared; i++) pack_unit(units[i], plane[0], plane[1], to + i * width);
  }

  void pack_unit(const Unit& unit, int32_t channel, int32_t shift, float* to) const {
    const int32_t stride = work.stride_width;
    const int32_t first = unit.left * stride + shift;  // the input's column of the first float; it may not exist
    const int32_t from = first < 0 ? least((-first + stride - 1) / stride, width) : 0;
    const int32_t end = first < work.width ? least((work.width - first + stride - 1) / stride, width) : 0;
    const int64_t start = unit.start + channel * work.x_strides[1] + first * work.x_strides[3];
    const int64_t step = stride * work.x_strides[3];
    for (int32_t i = 0; i < work.plane_rows; i++, to += work.vectors * L) {
      const int32_t row = unit.top * work.stride_height + work.row_steps[i];
      const int64_t at = start + row * work.x_strides[2];
      if (unit.rows == 0 || row < 0 || row >= work.height || end <= from) memset(to, 0, width * sizeof(float));
      else if (step == 1 && work.shared == 1) pack_vectors(at, from, end, to);
      else pack_floats(at, step, from, end, to, width);
    }
  }

  // Copy the floats from..end of a row that begins `at` floats after x, and zeros around them.
  void pack_vectors(int64_t at, int32_t from, int32_t end, float* to) const {
    for (int32_t done = 0; done < width; done += L, at += L, to += L, from -= L, end -= L) {
      if (from <= 0 && end >= L) store(to, load<V>(work.x + at));
      else if (at >= 0 && at + L <= work.x_floats) store(to, (places >= from) & (places < end) ? load<V>(work.x + at) : V{});
      else pack_floats(at, 1, from, end, to, L);
    }
  }

  void pack_floats(int64_t at, int64_t step, int32_t from, int32_t end, float* to, int32_t count) const {
    for (int32_t j = 0; j < count; j++) to[j] = j >= from && j < end ? work.x[at + j * step] : 0.0f;
  }

  V activate(V v) const {
    const V zero = {}, six = zero + 6.0f;
    switch (work.activation) {  // comparisons that leave NaN as it is
      case 1: return v < zero ? zero : v;
      case 2: v = v < zero ? zero : v; return v > six ? six : v;
      case 3: { V gate = v + 3.0f; gate = gate < zero ? zero : gate; return v * (gate > six ? six : gate) / six; }
      default: return v;
    }
  }

  // Write the outputs of one filter.
  void finish(const float* sums, int32_t filter) const {
    const int64_t channel = filter * work.y_strides[1];
    for (int32_t i = 0; i < work.shared; i++)
      for (int32_t row = 0; row < units[i].rows; row++)
        for (int32_t at = 0; at < units[i].columns; at += L) {
          const int64_t to = units[i].at + channel + row * work.y_strides[2] + at * work.y_strides[3];
          const int32_t left = units[i].columns - at;
          finish_vector(sums + row * work.vectors * L + i * width + at, to, left < L ? left : L);
        }
  }

  void finish_vector(const float* sums, int64_t to, int32_t count) const {
    const int64_t step = work.y_strides[3];
    if (count == L && step == 1) {
      V v = load<V>(sums);
      if (work.residual) v += load<V>(work.residual + to);
      store(work.y + to, activate(v));
      return;
    }
    float part[L] = {};
    for (int32_t j = 0; j < count; j++) part[j] = sums[j] + (work.residual ? work.residual[to + j * step] : 0.0f);
    const V v = activate(load<V>(part));
    store(part, v);
    for (int32_t j = 0; j < count; j++) work.y[to + j * step] = part[j];
  }
};

// One run: add up what the weights of one filter read from the planes of one block.
template <int L, int T> struct Run {
  typedef typename Vector<L>::type V;
  static void add(const V* buffer, const uint16_t* offset, const float* weight, int64_t count, V* sums, const float* start) {
    V sum[T];
    for (int t = 0; t < T; t++) sum[t] = start ? V{} + *start : sums[t];
    for (int64_t e = 0; e < count; e++) {
      const V* x = buffer + offset[e];
      const V w = V{} + weight[e];
#if defined(__clang__)
#pragma unroll
#else
#pragma GCC unroll 16
#endif
      for (int t = 0; t < T; t++) sum[t] += w * x[t];
    }
    for (int t = 0; t < T; t++) sums[t] = sum[t];
  }
};

// The first of a sorted list of runs whose filter is `filter` or a later one.
int32_t first_run(const int32_t* filters, int32_t from, int32_t end, int32_t filter) {
  while (from < end) {
    const int32_t middle = from + (end - from) / 2;
    if (filters[middle] / 4 < filter) from = middle + 1;
    else end = middle;
  }
  return from;
}

template <int L> auto run_of(int32_t vectors) -> decltype(&Run<L, 1>::add) {
  switch (vectors) {
#define CASE(T) case T: return Run<L, T>::add;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
    CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) CASE(15) default: CASE(16)
#undef CASE
  }
}

template <int L> void compute(Work& work, float* scratch) {
  typedef typename Vector<L>::type V;
  const auto add = run_of<L>(work.rows * work.vectors);
  float* sums = scratch + work.buffer_floats;
  const int64_t width = work.vectors * L / work.shared;
  const int64_t units = int64_t(work.images) * ((work.out_height + work.rows - 1) / work.rows) * ((work.out_width + width - 1) / width);
  const int64_t tasks = (units + work.shared - 1) / work.shared * work.chunks;
  Tile<L> tile(work);
  for (int64_t task; (task = __atomic_fetch_add(&work.next_task, 1, __ATOMIC_RELAXED)) < tasks;) {
    tile.place(task / work.chunks);
    const int32_t low = work.chunk_filters[task % work.chunks], high = work.chunk_filters[task % work.chunks + 1];
    for (int32_t block = 0; block < work.blocks; block++) {
      const int32_t begin = work.block_runs[block], end = work.block_runs[block + 1];
      const int32_t from = first_run(work.run_filters, begin, end, low), to = first_run(work.run_filters, from, end, high);
      if (from == to) continue;
      float* plane = scratch;
      for (int32_t p = work.block_planes[block]; p < work.block_planes[block + 1]; p++, plane += work.plane_rows * work.vectors * L)
        tile.pack(work.planes + 2 * p, plane);
      for (int32_t run = from; run < to; run++) {
        const int32_t filter = work.run_filters[run] / 4, flags = work.run_filters[run] % 4, entry = work.run_entries[run];
        const float zero = 0.0f, *bias = work.bias ? work.bias + filter : &zero;
        float* sum = sums + int64_t(filter - low) * work.rows * work.vectors * L;
        add((const V*)scratch, work.offsets + entry, work.weights + entry, work.run_entries[run + 1] - entry,
            (V*)sum, flags & 1 ? bias : nullptr);
        if (flags & 2) tile.finish(sum, filter);
      }
    }
  }
}

void thread(void* data) {
  Work& work = *static_cast<Work*>(data);
  const int32_t number = __atomic_fetch_add(&work.next_thread, 1, __ATOMIC_RELAXED);
  if (number >= work.threads) return;  // more came than there is scratch memory for
  float* scratch = work.scratch + number * work.scratch_floats;
  switch (work.lanes) {
    case LANES: return compute<LANES>(work, scratch);
#if defined(__AVX__)
    case LANES / 2: return compute<LANES / 2>(work, scratch);
#endif
  }
}

}  // namespace

// Compute one convolution. `work.parallel` may be null: then one thread does it all.
extern "C" void campfire_convolve(Work* work) {
  work->next_task = work->next_thread = 0;
  if (work->threads > 1 && work->parallel) work->parallel(thread, work, work->threads, 0);
  else thread(work);
}

// What the code was compiled for.
extern "C" const int32_t campfire_lanes = LANES, campfire_registers = REGISTERS;
