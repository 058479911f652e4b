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
#include <stdint.h>
#include <string.h>

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

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 18")
#endif

enum { AHEAD = 3 };  // planes

namespace {

template <int L> struct Vector;
template <> struct Vector<4> {
  typedef float type __attribute__((vector_size(16)));
  typedef int32_t places __attribute__((vector_size(16)));
  static type even(type a, type b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
};
#if defined(__AVX__)
template <> struct Vector<8> {
  typedef float type __attribute__((vector_size(32)));
  typedef int32_t places __attribute__((vector_size(32)));
  static type even(type a, type b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
};
#endif
#if defined(__AVX512F__)
template <> struct Vector<16> {
  typedef float type __attribute__((vector_size(64)));
  typedef int32_t places __attribute__((vector_size(64)));
  static type even(type a, type b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30); }
};
#endif

inline int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

template <class V> inline V load(const float* from) { V v; memcpy(&v, from, sizeof v); return v; }
template <class V> inline void store(float* to, V v) { memcpy(to, &v, sizeof v); }

// Copy fewer than P floats.
template <int P> inline void copy_few(float* to, const float* from, int32_t count) {
  int32_t at = 0;
  if constexpr (P > 8) if (count & 8) memcpy(to, from, 32), at = 8;
  if constexpr (P > 4) if (count & 4) memcpy(to + at, from + at, 16), at += 4;
  if (count & 2) memcpy(to + at, from + at, 8), at += 2;
  if (count & 1) memcpy(to + at, from + at, 4);
}

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
  int32_t plane_rows, blocks, chunks, threads, tasks;
  const int32_t *row_steps;
  const int32_t *planes;                     // (planes, 2): channel, and the first column's distance from the tile's
  const int32_t *block_planes, *block_runs;  // (blocks + 1): the first plane and the first run of each block
  const int32_t *run_filters;                // (runs): 4 * filter + 2 if it is the filter's last run + 1 if its first
  const int32_t *run_offsets, *run_weights;  // (runs + 1): the first offset and the first weight of each run
  const uint16_t *offsets;                   // vectors from the start of the buffer: of each three, and of each weight alone
  const float *weights;
  const int32_t *chunk_filters;              // (chunks + 1): the first filter of each chunk, which is one thread's
  int64_t buffer_floats, sum_floats, scratch_floats;  // of one thread: packed planes, sums, and all
  Parallel parallel;
  int32_t next_task, next_thread;            // counters of one call
};

namespace {

struct Unit {  // a block of one image's outputs
  int64_t start, at;  // of its image in x, and of its first output in y: filter 0's
  int32_t left, rows, columns;  // its first column; rows and columns that exist, no rows if the unit does not
};

// What one tile reads and writes, in pieces of P floats: whole vectors, or what one of the units has of a vector.
template <int L, int P> struct Tile {
  typedef typename Vector<P>::type V;
  typedef typename Vector<P>::places Places;
  const Work& work;
  int32_t width;  // columns of a unit
  Unit units[L / P];
  Places places;
  int64_t* rows_at;  // (units, rows of a plane): where each row begins, after its channel; -1 if there is none

  Tile(const Work& w, int64_t* rows) : work(w), width(w.vectors * P), rows_at(rows) {
    for (int32_t i = 0; i < P; i++) places[i] = i;
  }

  void place(int64_t index) {
    const int32_t down = (work.out_height + work.rows - 1) / work.rows, across = (work.out_width + width - 1) / width;
    for (int32_t i = 0; i < L / P; i++) {
      const int64_t unit = index * (L / P) + i, image = unit / (down * across);
      const int32_t top = unit / across % down * work.rows, left = unit % across * width;
      const bool exists = image < work.images;
      units[i] = {image * work.x_strides[0],
                  image * work.y_strides[0] + top * work.y_strides[2] + left * work.y_strides[3], left,
                  exists ? least(work.rows, work.out_height - top) : 0, least(width, work.out_width - left)};
      for (int32_t r = 0; r < work.plane_rows; r++) {
        const int32_t row = top * work.stride_height + work.row_steps[r];
        rows_at[i * work.plane_rows + r] = exists && row >= 0 && row < work.height ? row * work.x_strides[2] : -1;
      }
    }
  }

  // Copy what the tile reads of one plane.
  void pack(const int32_t* plane, float* to) const {
    const int32_t stride = work.stride_width;
    for (int32_t i = 0; i < L / P; i++) {
      const int32_t first = units[i].left * stride + plane[1];  // the input's column of the first float; it may not exist
      const int64_t start = units[i].start + plane[0] * work.x_strides[1] + first * work.x_strides[3];
      const int64_t step = stride * work.x_strides[3];
      const int64_t* rows = rows_at + i * work.plane_rows;
      if (step == 1 && first >= 0 && first + width <= work.width) pack_rows(work.x + start, rows, to + i * P);
      else for (int32_t v = 0; v < work.vectors; v++)
        pack_column(start + v * P * step, first + v * P * stride, rows, to + v * L + i * P);
    }
  }

  // Ask for the memory of a channel, a plane or more before it is copied.
  void fetch_channel(int32_t channel) const {
    for (int32_t i = 0; i < L / P; i++) {
      const float* x = work.x + units[i].start + channel * work.x_strides[1] + units[i].left * work.stride_width * work.x_strides[3];
      const int64_t* rows = rows_at + i * work.plane_rows;
      const int32_t columns = width * work.stride_width;
      for (int32_t r = 0, count = work.plane_rows; r < count; r++) if (rows[r] >= 0)
        for (int32_t at = 0; at < columns; at += 16) __builtin_prefetch(x + rows[r] + at);
    }
  }

  // Copy rows that exist from their first float to their last.
  void pack_rows(const float* x, const int64_t* rows, float* to) const {
    const int32_t count = work.plane_rows, vectors = work.vectors;
    if (vectors == 1) {
      for (int32_t r = 0; r < count; r++) store(to + r * L, rows[r] < 0 ? V{} : load<V>(x + rows[r]));
      return;
    }
    for (int32_t r = 0; r < count; r++)
      for (int32_t v = 0; v < vectors; v++, to += L) store(to, rows[r] < 0 ? V{} : load<V>(x + rows[r] + v * P));
  }

  // Copy one piece of each row; its floats begin `start` after x, in the input's column `first`.
  void pack_column(int64_t start, int32_t first, const int64_t* rows, float* to) const {
    const int32_t stride = work.stride_width;
    const int32_t from = first < 0 ? least((-first + stride - 1) / stride, P) : 0;
    const int32_t end = first < work.width ? least((work.width - first + stride - 1) / stride, P) : 0;
    const int64_t step = stride * work.x_strides[3];
    const int64_t last = start + (work.height - 1) * work.x_strides[2] + step * P;
    // Whole pieces may be read if memory is readable from the first row's to the last row's.
    if (step > 2 || start < 0 || last > work.x_floats) return pack_floats(start, step, from, end, rows, to);
    const Places inside = (places >= from) & (places < end);
    if (step == 1) pack_masked<1>(work.x + start, inside, rows, to);
    else pack_masked<2>(work.x + start, inside, rows, to);
  }

  template <int step> void pack_masked(const float* x, Places inside, const int64_t* rows, float* to) const {
    const int32_t count = work.plane_rows, row_floats = work.vectors * L;
    for (int32_t r = 0; r < count; r++, to += row_floats) {
      if (rows[r] < 0) { store(to, V{}); continue; }
      const V v = load<V>(x + rows[r]);
      store(to, inside ? step == 1 ? v : Vector<P>::even(v, load<V>(x + rows[r] + P)) : V{});
    }
  }

  void pack_floats(int64_t start, int64_t step, int32_t from, int32_t end, const int64_t* rows, float* to) const {
    for (int32_t r = 0; r < work.plane_rows; r++, to += work.vectors * L)
      for (int32_t j = 0; j < P; j++) to[j] = rows[r] >= 0 && j >= from && j < end ? work.x[start + rows[r] + j * step] : 0.0f;
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

  // Ask for the memory that the outputs of one filter go to, while they are computed.
  void fetch(int32_t filter) const {
    for (int32_t i = 0; i < L / P; i++) {
      const float* to = work.y + units[i].at + filter * work.y_strides[1];
      for (int32_t row = 0; row < units[i].rows; row++, to += work.y_strides[2])
        for (int32_t at = 0; at < units[i].columns; at += 16) __builtin_prefetch(to + at, 1);
    }
  }

  // Write the outputs of one filter.
  void finish(const float* sums, int32_t filter) const {
    for (int32_t i = 0; i < L / P; i++) {
      const float* from = sums + i * P;
      int64_t to = units[i].at + filter * work.y_strides[1];
      for (int32_t row = 0; row < units[i].rows; row++, to += work.y_strides[2], from += work.vectors * L)
        for (int32_t at = 0; at < units[i].columns; at += P)
          finish_piece(from + at / P * L, to + at * work.y_strides[3], least(P, units[i].columns - at));
    }
  }

  void finish_piece(const float* sums, int64_t to, int32_t count) const {
    const int64_t step = work.y_strides[3];
    V v = load<V>(sums);
    if (step == 1 && count == P) {
      if (work.residual) v += load<V>(work.residual + to);
      return store(work.y + to, activate(v));
    }
    float part[P] = {};
    if (work.residual && step == 1) copy_few<P>(part, work.residual + to, count);
    else if (work.residual) for (int32_t j = 0; j < count; j++) part[j] = work.residual[to + j * step];
    if (work.residual) v += load<V>(part);
    store(part, activate(v));
    if (step == 1) copy_few<P>(work.y + to, part, count);
    else for (int32_t j = 0; j < count; j++) work.y[to + j * step] = part[j];
  }
};

// One run: add up what the weights of one filter read from the planes of one block. First those that stand in threes, on
// vectors that follow each other (a column of a kernel, if a tile is one vector wide): they share what they load.
template <int L, int T> struct Run {
  typedef typename Vector<L>::type V;
  static void add(const V* buffer, const uint16_t* offset, const uint16_t* end, const float* weight, int64_t threes, V* sums,
                  const float* start) {
    V sum[T];
    if (start) { UNROLL for (int t = 0; t < T; t++) sum[t] = *start - V{}; }
    else { UNROLL for (int t = 0; t < T; t++) sum[t] = sums[t]; }
    for (const uint16_t* last = offset + threes; offset < last; offset++, weight += 3) {
      const V* x = buffer + *offset;
      const V w0 = weight[0] - V{}, w1 = weight[1] - V{}, w2 = weight[2] - V{};
      UNROLL for (int t = 0; t < T + 2; t++) {
        const V v = x[t];
        if (t < T) sum[t < T ? t : 0] += w0 * v;
        if (t > 0 && t <= T) sum[t > 0 && t <= T ? t - 1 : 0] += w1 * v;
        if (t > 1) sum[t > 1 ? t - 2 : 0] += w2 * v;
      }
    }
    for (; offset < end; offset++, weight++) {
      const V* x = buffer + *offset;
      const V w = *weight - V{};
      UNROLL for (int t = 0; t < T; t++) sum[t] += w * x[t];
    }
    UNROLL for (int t = 0; t < T; t++) sums[t] = sum[t];
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

template <int L, int P> void compute(Work& work, float* scratch) {
  typedef typename Vector<L>::type V;
  const auto add = run_of<L>(work.rows * work.vectors);
  const int64_t vectors = work.rows * work.vectors, plane_floats = int64_t(work.plane_rows) * work.vectors * L;
  float* sums = scratch + work.buffer_floats;
  Tile<L, P> tile(work, (int64_t*)(sums + work.sum_floats));
  for (int32_t task; (task = __atomic_fetch_add(&work.next_task, 1, __ATOMIC_RELAXED)) < work.tasks;) {
    tile.place(task / work.chunks);
    const int32_t low = work.chunk_filters[task % work.chunks], high = work.chunk_filters[task % work.chunks + 1];
    for (int32_t block = 0; block < work.blocks; block++) {
      const int32_t begin = work.block_runs[block], end = work.block_runs[block + 1];
      const int32_t from = first_run(work.run_filters, begin, end, low), to = first_run(work.run_filters, from, end, high);
      if (from == to) continue;
      float* plane = scratch;
      for (int32_t p = work.block_planes[block], last = work.block_planes[block + 1]; p < last; p++, plane += plane_floats) {
        const int32_t* channel = work.planes + 2 * p;
        if (p + AHEAD < last && channel[2 * AHEAD] != channel[2 * AHEAD - 2]) tile.fetch_channel(channel[2 * AHEAD]);
        tile.pack(channel, plane);
      }
      for (int32_t run = from; run < to; run++) {
        const int32_t filter = work.run_filters[run] / 4, flags = work.run_filters[run] % 4;
        const int32_t weight = work.run_weights[run], entry = work.run_offsets[run], next = work.run_offsets[run + 1];
        const int32_t threes = (work.run_weights[run + 1] - weight - (next - entry)) / 2;
        const float zero = 0.0f, *bias = work.bias ? work.bias + filter : &zero;
        float* sum = sums + (filter - low) * vectors * L;
        if (flags & 2) tile.fetch(filter);
        add((const V*)scratch, work.offsets + entry, work.offsets + next, work.weights + weight, threes, (V*)sum,
            flags & 1 ? bias : nullptr);
        if (flags & 2) tile.finish(sum, filter);
      }
    }
  }
}

template <int L> void choose(Work& work, float* scratch) {
  if (work.shared == 1) return compute<L, L>(work, scratch);
  if constexpr (L >= 8) if (work.shared == 2) return compute<L, L / 2>(work, scratch);
  if constexpr (L >= 16) if (work.shared == 4) return compute<L, L / 4>(work, scratch);
}

void thread(void* data) {
  Work& work = *static_cast<Work*>(data);
  const int32_t number = __atomic_fetch_add(&work.next_thread, 1, __ATOMIC_RELAXED);
  if (number >= work.threads) return;  // more came than there is scratch memory for
  float* scratch = work.scratch + number * work.scratch_floats;
  if (work.lanes == LANES) choose<LANES>(work, scratch);
#if defined(__AVX__)
  else choose<LANES / 2>(work, scratch);
#endif
}

// Multiply and add `rounds` times twelve vectors, and nothing else.
template <int L> float multiply_add(int64_t rounds, float by) {
  typedef typename Vector<L>::type V;
  V sum[12];
  UNROLL for (int t = 0; t < 12; t++) sum[t] = by * t - V{};
  for (int64_t i = 0; i < rounds; i++) UNROLL for (int t = 0; t < 12; t++) sum[t] = sum[t] * by + by;
  V all = {};
  for (int t = 0; t < 12; t++) all += sum[t];
  return all[0];
}

}  // namespace

// Compute one convolution. `work.parallel` may be null: then one thread does it all.
extern "C" void campfire_convolve(Work* work) {
  work->next_task = work->next_thread = 0;
  if (work->threads > 1 && work->parallel) work->parallel(thread, work, work->threads, 0);
  else thread(work);
}

// A linear layer of one row: y[k] = bias[k] + the sum of weights[e] * x[channels[e]] over starts[k] <= e < starts[k + 1].
extern "C" void campfire_multiply_row(const float* x, const int32_t* starts, const int32_t* channels, const float* weights,
                                      const float* bias, int32_t filters, float* y) {
  for (int32_t k = 0; k < filters; k++) {
    float sums[8] = {};  // added up apart from each other, so that none waits for the one before
    int32_t e = starts[k];
    const int32_t end = starts[k + 1];
    for (; e + 8 <= end; e += 8) UNROLL for (int j = 0; j < 8; j++) sums[j] += weights[e + j] * x[channels[e + j]];
    for (; e < end; e++) sums[0] += weights[e] * x[channels[e]];
    const float sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    y[k] = bias ? sum + bias[k] : sum;
  }
}

// For timing: `rounds` times twelve multiply-adds of vectors; half as wide as the widest if `half`.
extern "C" float campfire_multiply_add(int32_t half, int64_t rounds, float by) {
#if defined(__AVX__)
  if (half) return multiply_add<LANES / 2>(rounds, by);
#endif
  (void)half;
  return multiply_add<LANES>(rounds, by);
}

// What the code was compiled for.
extern "C" const int32_t campfire_lanes = LANES, campfire_registers = REGISTERS;
