/* DELLA: ranks in each row, drops by rank, election; methods/della.py explains the steps. */

#include "election.h"
#include "random.h"

#include <stdlib.h>

typedef struct {
    Inputs in;
    Py_ssize_t length; /* of a row */
    double weight[MODELS], lowest, epsilon, scale;
    uint32_t key[2];
    int mean;
} Task;

/* The bits of a size in three digits; the highest bit is never set. */
#define BUCKETS 1024
#define LOWS 2048
#define LOW(entry) ((uint32_t)(entry) & 0x7FF)
#define MIDDLE(entry) ((uint32_t)(entry) >> 11 & 0x3FF)
#define HIGH(entry) ((uint32_t)(entry) >> 21)

/* Numbers of entries to where their buckets begin. */
INLINE void begin(uint32_t *count, int buckets) {
    uint32_t before = 0;
    for (int value = 0; value < buckets; value++) {
        uint32_t own = count[value];
        count[value] = before;
        before += own;
    }
}

/* Ranks `length` elements by |model − base| in float, 0 the smallest; of equals the first comes first, NaN last. A
 * radix sort of the bits, whose order is that of the sizes, with room for 2 · length entries: (place, size). Nearly all
 * differences of bfloat16 numbers have no low digit: those are merely moved to the front. */
INLINE void rank_row(const uint16_t *model, const uint16_t *base, Py_ssize_t length, uint64_t *room, uint32_t *rank) {
    uint32_t middle[BUCKETS] = {0}, high[BUCKETS] = {0};
    uint64_t *first = room, *second = room + length;
    Py_ssize_t front = 0, others = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        float size = fabsf(widen(model[i]) - widen(base[i]));
        uint64_t entry = (uint64_t)i << 32 | (size == size ? to_bits(size) : 0x7FC00000u);
        middle[MIDDLE(entry)]++;
        high[HIGH(entry)]++;
        first[front] = second[others] = entry;
        front += LOW(entry) == 0;
        others += LOW(entry) != 0;
    }
    if (others) {
        uint32_t low[LOWS] = {0};
        for (Py_ssize_t i = 0; i < others; i++) low[LOW(second[i])]++;
        begin(low, LOWS);
        for (Py_ssize_t i = 0; i < others; i++) first[front + low[LOW(second[i])]++] = second[i];
    }
    begin(middle, BUCKETS);
    begin(high, BUCKETS);
    for (Py_ssize_t i = 0; i < length; i++) second[middle[MIDDLE(first[i])]++] = first[i];
    for (Py_ssize_t i = 0; i < length; i++) rank[second[i] >> 32] = high[HIGH(second[i])]++;
}

INLINE void prune_any(const Task *t, uint16_t *out, uint64_t first, uint64_t *room, Philox *philox) {
    double base[LANES], delta[MODELS][LANES], sum[LANES];
    uint32_t random[LANES], rank[LANES], *ranks = (uint32_t *)(room + 2 * t->length);
    uint16_t spare[LANES];
    for (Py_ssize_t row = 0; row < t->in.count; row += t->length) {
        for (int m = 0; m < t->in.models; m++)
            rank_row(t->in.model[m] + row, t->in.base + row, t->length, room, ranks + m * t->length);
        for (Py_ssize_t start = row, length; start < row + t->length; start += length) {
            uint64_t skip = (first + (uint64_t)start) % 4; /* of the four numbers that a counter gives */
            length = shorter(row + t->length - start, LANES - (Py_ssize_t)skip);
            const uint16_t *from = whole(t->in.base + start, length, spare);
            for (int i = 0; i < LANES; i++) base[i] = (double)widen(from[i]);
            memset(rank, 0, sizeof rank);
            for (int m = 0; m < t->in.models; m++) {
                double *d = delta[m];
                from = whole(t->in.model[m] + start, length, spare);
                memcpy(rank, ranks + m * t->length + (start - row), (size_t)length * sizeof(uint32_t));
                philox(random, (first + (uint64_t)start) / 4, (uint32_t)m, t->key);
                memmove(random, random + skip, (LANES - skip) * sizeof(uint32_t));
                for (int i = 0; i < LANES; i++) {
                    double share = t->lowest + t->epsilon * ((double)rank[i] + 0.5) / (double)t->length;
                    double own = ((double)widen(from[i]) - base[i]) / share;
                    d[i] = ((double)random[i] * 0x1p-32 < share ? own : 0.0) * t->weight[m];
                }
            }
            for (int i = 0; i < LANES; i++) sum[i] = delta[0][i];
            for (int m = 1; m < t->in.models; m++)
                for (int i = 0; i < LANES; i++) sum[i] += delta[m][i];
            elect(sum, delta, t->in.models, t->weight, t->mean);
            for (int i = 0; i < LANES; i++) spare[i] = narrow((float)(base[i] + t->scale * sum[i]));
            memcpy(out + start, spare, (size_t)length * sizeof(uint16_t));
        }
    }
}

AVX2 static void prune_fast(const Task *t, uint16_t *out, uint64_t first, uint64_t *room) {
    prune_any(t, out, first, room, philox_fast);
}
AVX512 static void prune_faster(const Task *t, uint16_t *out, uint64_t first, uint64_t *room) {
    prune_any(t, out, first, room, philox_faster);
}

PyObject *prune(PyObject *self, PyObject *args) {
    PyObject *models, *base, *weights, *result = NULL;
    unsigned long long first, key;
    Py_buffer out;
    Task t;
    (void)self;
    memset(&t, 0, sizeof t);
    if (!PyArg_ParseTuple(args, "OOw*nKKddOdp", &models, &base, &out, &t.length, &key, &first, &t.lowest, &t.epsilon,
                          &weights, &t.scale, &t.mean))
        return NULL;
    t.key[0] = (uint32_t)key;
    t.key[1] = (uint32_t)(key >> 32);
    if (open_inputs(&t.in, models, base) && numbers(weights, t.in.models, t.weight)) {
        if (!t.in.base || out.len != 2 * t.in.count || t.length < 1 || t.length > UINT32_MAX || t.in.count % t.length) {
            PyErr_SetString(PyExc_ValueError, "there is no base, or rows and out differ in number");
        } else {
            uint64_t *room = malloc((size_t)t.length * (2 * sizeof(uint64_t) + (size_t)t.in.models * sizeof(uint32_t)));
            if (room) {
                Py_BEGIN_ALLOW_THREADS;
                BEST(prune)(&t, out.buf, first, room);
                Py_END_ALLOW_THREADS;
                free(room);
                Py_INCREF(Py_None);
                result = Py_None;
            } else {
                PyErr_NoMemory();
            }
        }
    }
    close_inputs(&t.in);
    PyBuffer_Release(&out);
    return result;
}
