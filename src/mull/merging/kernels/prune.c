/* DELLA: ranks the elements of each row by size, drops them at random by their rank, then elects signs.
 * methods/della.py explains the steps and has the same in torch. */

#include "election.h"
#include "random.h"

#include <stdlib.h>

typedef struct {
    Inputs inputs;
    Py_ssize_t length; /* of a row */
    double weight[MAX_MODELS];
    double lowest, epsilon; /* an element of rank r is kept with probability lowest + epsilon (r + 1/2) / length */
    double scale;
    uint32_t key[2];
    int mean;
} Task;

/* The sort below reads an entry's lower 32 bits, which are those of a float, as three digits of 11, 10 and 10 bits. The
 * sign bit is never set. */
#define BUCKETS 1024
#define LOW_BUCKETS 2048
#define LOW_DIGIT(entry) ((uint32_t)(entry) & 0x7FF)
#define MIDDLE_DIGIT(entry) ((uint32_t)(entry) >> 11 & 0x3FF)
#define HIGH_DIGIT(entry) ((uint32_t)(entry) >> 21)

/* Turns the number of entries in each bucket into the position where the bucket begins. */
INLINE void counts_to_offsets(uint32_t *count, int buckets) {
    uint32_t offset = 0;
    for (int bucket = 0; bucket < buckets; bucket++) {
        uint32_t own = count[bucket];
        count[bucket] = offset;
        offset += own;
    }
}

/* Ranks the `length` elements of a row (at most 2^32 - 1) by |model - base| in float: 0 is the smallest, equal sizes
 * keep their order, NaN comes last. This is a radix sort of the sizes' bits, which have the same order as the sizes. An
 * entry is (position, size); `scratch` has room for 2 * length entries. The low digit of nearly all differences of
 * bfloat16 numbers is 0: these entries only move to the front. */
INLINE void rank_row(const uint16_t *model, const uint16_t *base, Py_ssize_t length, uint64_t *scratch,
                     uint32_t *rank) {
    uint32_t middle[BUCKETS] = {0}, high[BUCKETS] = {0};
    uint64_t *entries = scratch, *swapped = scratch + length;
    Py_ssize_t low_zero = 0, low_nonzero = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        float size = fabsf(from_bfloat16(model[i]) - from_bfloat16(base[i]));
        uint64_t entry = (uint64_t)i << 32 | (size == size ? bits_of_float(size) : 0x7FC00000u);
        middle[MIDDLE_DIGIT(entry)]++;
        high[HIGH_DIGIT(entry)]++;
        entries[low_zero] = swapped[low_nonzero] = entry;
        low_zero += LOW_DIGIT(entry) == 0;
        low_nonzero += LOW_DIGIT(entry) != 0;
    }
    if (low_nonzero) {
        uint32_t low[LOW_BUCKETS] = {0};
        for (Py_ssize_t i = 0; i < low_nonzero; i++) low[LOW_DIGIT(swapped[i])]++;
        counts_to_offsets(low, LOW_BUCKETS);
        for (Py_ssize_t i = 0; i < low_nonzero; i++) entries[low_zero + low[LOW_DIGIT(swapped[i])]++] = swapped[i];
    }
    counts_to_offsets(middle, BUCKETS);
    counts_to_offsets(high, BUCKETS);
    for (Py_ssize_t i = 0; i < length; i++) swapped[middle[MIDDLE_DIGIT(entries[i])]++] = entries[i];
    for (Py_ssize_t i = 0; i < length; i++) rank[swapped[i] >> 32] = high[HIGH_DIGIT(swapped[i])]++;
}

/* Merges all rows: the number of elements is a multiple of task->length, and there is a base. `out` must not overlap
 * an input. `first` is the position of element 0 in its tensor; it decides the random numbers and need not be a
 * multiple of 4. `scratch` has room for 2 * length entries of 64 bits and a rank of 32 bits for each element of a row
 * in each model. */
INLINE void prune_any(const Task *task, uint16_t *out, uint64_t first, uint64_t *scratch, Philox *philox) {
    double base[CHUNK], delta[MAX_MODELS][CHUNK], sum[CHUNK];
    uint32_t random[CHUNK], rank[CHUNK], *ranks = (uint32_t *)(scratch + 2 * task->length);
    uint16_t spare[CHUNK];
    for (Py_ssize_t row = 0; row < task->inputs.count; row += task->length) {
        for (int model = 0; model < task->inputs.model_count; model++)
            rank_row(task->inputs.models[model] + row, task->inputs.base + row, task->length, scratch,
                     ranks + model * task->length);
        for (Py_ssize_t start = row, length; start < row + task->length; start += length) {
            uint64_t skip = (first + (uint64_t)start) % 4; /* a counter gives four numbers: begin at the right one */
            length = min_length(row + task->length - start, CHUNK - (Py_ssize_t)skip);
            const uint16_t *from = padded_chunk(task->inputs.base + start, length, spare);
            for (int i = 0; i < CHUNK; i++) base[i] = (double)from_bfloat16(from[i]);
            memset(rank, 0, sizeof rank);
            for (int model = 0; model < task->inputs.model_count; model++) {
                double *delta_of_model = delta[model];
                from = padded_chunk(task->inputs.models[model] + start, length, spare);
                memcpy(rank, ranks + model * task->length + (start - row), (size_t)length * sizeof(uint32_t));
                philox(random, (first + (uint64_t)start) / 4, (uint32_t)model, task->key);
                memmove(random, random + skip, (CHUNK - skip) * sizeof(uint32_t));
                for (int i = 0; i < CHUNK; i++) {
                    double rise = task->epsilon * ((double)rank[i] + 0.5) / (double)task->length;
                    double probability = task->lowest + rise;
                    double difference = (double)from_bfloat16(from[i]) - base[i], zero = difference - difference;
                    double kept = (double)random[i] * 0x1p-32 < probability ? difference / probability : zero;
                    delta_of_model[i] = kept * task->weight[model];
                }
            }
            for (int i = 0; i < CHUNK; i++) sum[i] = delta[0][i];
            for (int model = 1; model < task->inputs.model_count; model++)
                for (int i = 0; i < CHUNK; i++) sum[i] += delta[model][i];
            elect(sum, delta, task->inputs.model_count, task->weight, task->mean);
            for (int i = 0; i < CHUNK; i++) spare[i] = to_bfloat16((float)(base[i] + task->scale * sum[i]));
            memcpy(out + start, spare, (size_t)length * sizeof(uint16_t));
        }
    }
}

FMA_CODE static void prune_fma(const Task *task, uint16_t *out, uint64_t first, uint64_t *scratch) {
    prune_any(task, out, first, scratch, philox_fma);
}
AVX512_CODE static void prune_avx512(const Task *task, uint16_t *out, uint64_t first, uint64_t *scratch) {
    prune_any(task, out, first, scratch, philox_avx512);
}

PyObject *prune(PyObject *self, PyObject *args) {
    PyObject *models, *base, *weights, *result = NULL;
    unsigned long long first, key;
    Py_buffer out;
    Task task;
    (void)self;
    memset(&task, 0, sizeof task);
    if (!PyArg_ParseTuple(args, "OOw*nKKddOdp", &models, &base, &out, &task.length, &key, &first, &task.lowest,
                          &task.epsilon, &weights, &task.scale, &task.mean))
        return NULL;
    task.key[0] = (uint32_t)key;
    task.key[1] = (uint32_t)(key >> 32);
    if (open_inputs(&task.inputs, models, base) && read_numbers(weights, task.inputs.model_count, task.weight)) {
        if (!task.inputs.base || out.len != 2 * task.inputs.count || task.length < 1 || task.length > UINT32_MAX ||
            task.inputs.count % task.length) {
            PyErr_SetString(PyExc_ValueError, "there is no base, or rows and out differ in number");
        } else {
            size_t bytes_per_element = 2 * sizeof(uint64_t) + (size_t)task.inputs.model_count * sizeof(uint32_t);
            uint64_t *scratch = malloc((size_t)task.length * bytes_per_element);
            if (scratch) {
                Py_BEGIN_ALLOW_THREADS;
                DISPATCH(prune)(&task, out.buf, first, scratch);
                Py_END_ALLOW_THREADS;
                free(scratch);
                Py_INCREF(Py_None);
                result = Py_None;
            } else {
                PyErr_NoMemory();
            }
        }
    }
    close_inputs(&task.inputs);
    PyBuffer_Release(&out);
    return result;
}
