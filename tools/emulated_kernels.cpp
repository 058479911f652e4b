// The kernels on another processor, for tools/check_kernels: compiled twice, once for each side of two pipes.
//
// For this machine it is a library with the interface of sparse.cpp, which copies all that a call reads into the pipe of a
// program, and what that has written back. For the other processor (-DPROGRAM) it is the program, which calls the kernels.
// The command that runs it, as "qemu-aarch64 FILE", stands in the variable CAMPFIRE_FX_EMULATED.
#ifndef PROGRAM
#define campfire_convolve native_convolve
#define campfire_multiply_row native_multiply_row
#define campfire_multiply_add native_multiply_add
#define campfire_lanes native_lanes
#define campfire_registers native_registers
#endif
#include "../campfire_fx/kernels/sparse.cpp"

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

namespace {

enum { CONVOLVE = 1, ROW = 2 };

void send(int to, const void* data, int64_t bytes) {
  for (const char* at = (const char*)data; bytes > 0;) {
    const ssize_t done = write(to, at, bytes);
    if (done <= 0) abort();
    at += done, bytes -= done;
  }
}

void receive(int from, void* data, int64_t bytes) {
  for (char* at = (char*)data; bytes > 0;) {
    const ssize_t done = read(from, at, bytes);
    if (done <= 0) exit(done ? 1 : 0);
    at += done, bytes -= done;
  }
}

// What Work points to, in the order in which it is sent; y comes last.
const size_t POINTERS[] = {offsetof(Work, x), offsetof(Work, bias), offsetof(Work, residual), offsetof(Work, scratch),
    offsetof(Work, row_steps), offsetof(Work, planes), offsetof(Work, block_planes), offsetof(Work, block_runs),
    offsetof(Work, run_filters), offsetof(Work, run_offsets), offsetof(Work, run_weights), offsetof(Work, offsets),
    offsetof(Work, weights), offsetof(Work, chunk_filters), offsetof(Work, y)};
enum { COUNT = sizeof POINTERS / sizeof *POINTERS };

char*& pointer(Work& work, int i) { return *(char**)((char*)&work + POINTERS[i]); }

#ifdef PROGRAM

void* room(int64_t bytes) { return aligned_alloc(64, (bytes + 127) / 64 * 64); }

void convolve() {
  Work work;
  int64_t bytes[COUNT];
  receive(0, &work, sizeof work);
  receive(0, bytes, sizeof bytes);
  for (int i = 0; i < COUNT; i++) {
    pointer(work, i) = bytes[i] ? (char*)room(bytes[i]) : nullptr;
    receive(0, pointer(work, i), bytes[i]);
  }
  work.parallel = nullptr;
  campfire_convolve(&work);
  send(1, work.y, bytes[COUNT - 1]);
  for (int i = 0; i < COUNT; i++) free(pointer(work, i));
}

void row() {
  int64_t bytes[5];
  int32_t filters;
  void* data[5];
  receive(0, &filters, sizeof filters);
  receive(0, bytes, sizeof bytes);
  for (int i = 0; i < 5; i++) receive(0, data[i] = bytes[i] ? room(bytes[i]) : nullptr, bytes[i]);
  float* y = (float*)room(4 * filters);
  campfire_multiply_row((float*)data[0], (int32_t*)data[1], (int32_t*)data[2], (float*)data[3], (float*)data[4], filters, y);
  send(1, y, 4 * filters);
  for (void* one : data) free(one);
  free(y);
}

#else

int to_program, from_program;

// Start the program; it says first what it was compiled for.
struct Constants {
  int32_t values[2];
  Constants() {
    int there[2], back[2];
    const char* command = getenv("CAMPFIRE_FX_EMULATED");
    if (!command || pipe(there) || pipe(back)) abort();
    if (!fork()) {
      dup2(there[0], 0), dup2(back[1], 1), close(there[1]), close(back[0]);
      execl("/bin/sh", "sh", "-c", command, (char*)nullptr);
      _exit(127);
    }
    close(there[0]), close(back[1]);
    to_program = there[1], from_program = back[0];
    receive(from_program, values, sizeof values);
  }
} constants;

int64_t floats(const int64_t* strides, const int32_t (&sizes)[4]) {
  int64_t last = 0;
  for (int i = 0; i < 4; i++) last += (sizes[i] - 1) * strides[i];
  return 4 * (last + 1);
}

#endif

}  // namespace

#ifdef PROGRAM

int main() {
  const int32_t values[] = {campfire_lanes, campfire_registers};
  send(1, values, sizeof values);
  for (int32_t what;;) {
    receive(0, &what, sizeof what);
    if (what == CONVOLVE) convolve();
    else row();
  }
}

#else
#undef campfire_convolve
#undef campfire_multiply_row
#undef campfire_multiply_add
#undef campfire_lanes
#undef campfire_registers

extern "C" {

int32_t campfire_lanes = constants.values[0], campfire_registers = constants.values[1];

float campfire_multiply_add(int32_t, int64_t, float) { return 0; }  // times of an emulator say nothing

void campfire_convolve(Work* work) {
  const int32_t filters = work->chunk_filters[work->chunks], planes = work->block_planes[work->blocks];
  const int32_t runs = work->block_runs[work->blocks], what = CONVOLVE;
  const int64_t y = floats(work->y_strides, {work->images, filters, work->out_height, work->out_width});
  const int64_t bytes[COUNT] = {4 * work->x_floats, work->bias ? 4 * filters : 0, work->residual ? y : 0,
      4 * work->scratch_floats * work->threads, 4 * work->plane_rows, 8 * planes, 4 * (work->blocks + 1),
      4 * (work->blocks + 1), 4 * runs, 4 * (runs + 1), 4 * (runs + 1), 2 * work->run_offsets[runs],
      4 * work->run_weights[runs], 4 * (work->chunks + 1), y};
  send(to_program, &what, sizeof what);
  send(to_program, work, sizeof *work);
  send(to_program, bytes, sizeof bytes);
  for (int i = 0; i < COUNT; i++) send(to_program, pointer(*work, i), bytes[i]);
  receive(from_program, work->y, y);
}

void campfire_multiply_row(const float* x, const int32_t* starts, const int32_t* channels, const float* weights,
                           const float* bias, int32_t filters, float* y) {
  const int32_t what = ROW, count = starts[filters];
  int32_t last = -1;
  for (int32_t e = 0; e < count; e++) if (channels[e] > last) last = channels[e];
  const int64_t bytes[] = {4 * (last + 1), 4 * (filters + 1), 4 * count, 4 * count, bias ? 4 * filters : 0};
  const void* data[] = {x, starts, channels, weights, bias};
  send(to_program, &what, sizeof what);
  send(to_program, &filters, sizeof filters);
  send(to_program, bytes, sizeof bytes);
  for (int i = 0; i < 5; i++) send(to_program, data[i], bytes[i]);
  receive(from_program, y, 4 * filters);
}

}
#endif
