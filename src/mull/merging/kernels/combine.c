/* operations.Combination: sums of scaled differences from a base, in double; its docstring lists the steps. The
 * operations come in the same order as in its torch code, so that the results have the same bits. */

#include "election.h"
#include "packed.h"
#include "random.h"

#include <stdlib.h>

typedef struct {
    Inputs inputs;
    double factor[MAX_MODELS], weight[MAX_MODELS];
    float low[MAX_MODELS], high[MAX_MODELS];
    double scale, total; /* total: the sum of the weights */
    uint32_t keep;       /* an element is kept if its random number is below this; 0 keeps all */
    uint32_t key[2];
    int elect, mean;
} Task;

/* CHUNK values as double: `length` elements, then zeros. */
INLINE void load(double *values, const uint16_t *from, Py_ssize_t length) {
    uint16_t spare[CHUNK];
    from = padded_chunk(from, length, spare);
    for (int i = 0; i < CHUNK; i++) values[i] = (double)from_bfloat16(from[i]);
}

/* Computes CHUNK results from any inputs, for any number of models: `length` elements from `start` on, then what zeros
 * give. `first` is the position of element 0 in its tensor; it decides the random numbers. A dropped difference becomes
 * itself minus itself: 0, or NaN if it is NaN or infinite, so that these are seen in the result. */
INLINE void combine_all(const Task *task, uint16_t *out, Py_ssize_t start, Py_ssize_t length, uint64_t first,
                        Philox *philox) {
    double base[CHUNK], delta[MAX_MODELS][CHUNK], sum[CHUNK];
    uint32_t random[CHUNK];
    if (task->inputs.base) load(base, task->inputs.base + start, length);
    else memset(base, 0, sizeof base);
    for (int model = 0; model < task->inputs.model_count; model++) {
        double *delta_of_model = delta[model], factor = task->factor[model];
        float low = task->low[model], high = task->high[model];
        load(delta_of_model, task->inputs.models[model] + start, length);
        if (task->inputs.base) for (int i = 0; i < CHUNK; i++) delta_of_model[i] -= base[i];
        if (low > 0 || high < INFINITY) {
            for (int i = 0; i < CHUNK; i++) {
                float size = (float)fabs(delta_of_model[i]);
                double zero = delta_of_model[i] - delta_of_model[i];
                delta_of_model[i] = ((size < low) | (size > high)) ? zero : delta_of_model[i];
            }
        }
        if (task->keep) {
            philox(random, (first + (uint64_t)start) / 4, (uint32_t)model, task->key);
            for (int i = 0; i < CHUNK; i++) {
                double zero = delta_of_model[i] - delta_of_model[i];
                delta_of_model[i] = random[i] < task->keep ? delta_of_model[i] : zero;
            }
        }
        for (int i = 0; i < CHUNK; i++) delta_of_model[i] *= factor;
    }
    for (int i = 0; i < CHUNK; i++) sum[i] = delta[0][i];
    for (int model = 1; model < task->inputs.model_count; model++)
        for (int i = 0; i < CHUNK; i++) sum[i] += delta[model][i];
    if (task->elect) elect(sum, delta, task->inputs.model_count, task->weight, task->mean);
    else if (task->mean) for (int i = 0; i < CHUNK; i++) sum[i] /= task->total;
    for (int i = 0; i < CHUNK; i++) out[i] = to_bfloat16((float)(base[i] + task->scale * sum[i]));
}

/* A faster way for two models whose elements are all finite. NaN cannot occur, so an element can be dropped by putting
 * the base in its place, and a sum can only be divided by one of four numbers. */

typedef struct {
    int usable;        /* whether this way applies */
    double divisor[4]; /* what a sum is divided by if these models agree: none, the left, the right, both */
    Packed *packed;    /* NULL where packing would be slower or would give other bits */
    Rule rule;
} Pair;

/* Whether multiplying by 1 / value gives the same bits as dividing by value. */
static int power_of_two(double value) {
    int exponent;
    return fabs(frexp(value, &exponent)) == 0.5 && abs(exponent) < 1000;
}

static Pair pair_of(const Task *task, Packed *packed) {
    Pair pair = {.usable = task->inputs.model_count == 2};
    for (int model = 0; model < 2 && pair.usable; model++) /* products with smaller factors stay finite */
        pair.usable = fabs(task->factor[model]) < 1e200 && task->high[model] == INFINITY;
    double sums[4] = {0, task->weight[0], task->weight[1], task->weight[0] + task->weight[1]};
    for (int i = 0; i < 4; i++)
        pair.divisor[i] = !task->mean ? 1 : !task->elect ? task->total : sums[i] != 0 ? sums[i] : 1;
    int dropping = task->keep || (task->low[0] > 0 && task->low[1] > 0);
    /* With an infinite scale or a divisor of 0 a dropped element is NaN and not the base. */
    if (dropping && isfinite(task->scale) && pair.divisor[0] != 0) pair.packed = packed;
    int exact = power_of_two(pair.divisor[1]) && power_of_two(pair.divisor[2]) && power_of_two(pair.divisor[3]);
    double operand[3];
    for (int i = 0; i < 3; i++) operand[i] = exact ? 1 / pair.divisor[i + 1] : pair.divisor[i + 1];
    pair.rule = (Rule){.factor = {task->factor[0], task->factor[1]}, .scale = task->scale, .only_left = operand[0],
                       .only_right = operand[1], .both = operand[2], .low = {task->low[0], task->low[1]},
                       .keep = task->keep, .elect = task->elect, .exact = exact};
    return pair;
}

/* Whether none of CHUNK elements of three arrays is NaN or infinite. */
INLINE int all_finite(const uint16_t *left, const uint16_t *right, const uint16_t *base) {
    uint16_t largest = 0;
    for (int i = 0; i < CHUNK; i++) {
        uint16_t left_bits = left[i] & 0x7FFF, right_bits = right[i] & 0x7FFF, base_bits = base[i] & 0x7FFF;
        uint16_t larger = left_bits > right_bits ? left_bits : right_bits;
        larger = larger > base_bits ? larger : base_bits;
        largest = largest > larger ? largest : larger;
    }
    return largest < 0x7F80;
}

/* CHUNK results from elements of which the dropped ones already hold the base's value. All of them are finite. `elect`
 * and `mean` are those of the task, as constants, so that the compiler removes the branches. */
INLINE void sum_of_two(const Task *task, const Pair *pair, int elect, int mean, const float *left, const float *right,
                       const float *base, uint16_t *out) {
    float result[CHUNK];
    double left_factor = task->factor[0], right_factor = task->factor[1], scale = task->scale;
    double none = pair->divisor[0], only_left = pair->divisor[1], only_right = pair->divisor[2];
    double both = pair->divisor[3];
    for (int i = 0; i < CHUNK; i++) {
        double origin = (double)base[i];
        double left_delta = ((double)left[i] - origin) * left_factor;
        double right_delta = ((double)right[i] - origin) * right_factor;
        double sum = left_delta + right_delta, divisor = both;
        if (elect) {
            double sign = sum >= 0 ? 1.0 : -1.0, left_agrees = left_delta * sign, right_agrees = right_delta * sign;
            double without_right = left_agrees > 0 ? only_left : none, with_right = left_agrees > 0 ? both : only_right;
            sum = (left_agrees > 0 ? left_delta : 0.0) + (right_agrees > 0 ? right_delta : 0.0);
            divisor = right_agrees > 0 ? with_right : without_right;
        }
        if (mean) sum /= divisor;
        result[i] = (float)(origin + scale * sum);
    }
    for (int i = 0; i < CHUNK; i++) out[i] = to_bfloat16(result[i]);
}

/* combine_all for the case that `pair` describes. Returns 0, with nothing written, if an element is not finite. */
INLINE int combine_two(const Task *task, const Pair *pair, uint16_t *out, Py_ssize_t start, Py_ssize_t length,
                       uint64_t first, Philox *philox) {
    const Inputs *inputs = &task->inputs;
    uint16_t spare[3][CHUNK];
    float base[CHUNK], value[2][CHUNK];
    uint32_t random[2][CHUNK];
    static const uint16_t zeros[CHUNK];
    const uint16_t *from[2] = {padded_chunk(inputs->models[0] + start, length, spare[0]),
                               padded_chunk(inputs->models[1] + start, length, spare[1])};
    const uint16_t *origin = inputs->base ? padded_chunk(inputs->base + start, length, spare[2]) : zeros;
    if (!all_finite(from[0], from[1], origin)) return 0;
    for (int model = 0; model < 2 && task->keep; model++)
        philox(random[model], (first + (uint64_t)start) / 4, (uint32_t)model, task->key);
    if (pair->packed) {
        pair->packed(&pair->rule, from, origin, random, out);
        return 1;
    }
    for (int i = 0; i < CHUNK; i++) base[i] = from_bfloat16(origin[i]);
    for (int model = 0; model < 2; model++) {
        float *values = value[model], low = task->low[model];
        for (int i = 0; i < CHUNK; i++) values[i] = from_bfloat16(from[model][i]);
        if (low > 0) /* float gives the same size as double, rounded: the inputs are bfloat16 */
            for (int i = 0; i < CHUNK; i++) values[i] = fabsf(values[i] - base[i]) < low ? base[i] : values[i];
        if (task->keep)
            for (int i = 0; i < CHUNK; i++) values[i] = random[model][i] < task->keep ? values[i] : base[i];
    }
    if (task->elect && task->mean) sum_of_two(task, pair, 1, 1, value[0], value[1], base, out);
    else if (task->elect) sum_of_two(task, pair, 1, 0, value[0], value[1], base, out);
    else if (task->mean) sum_of_two(task, pair, 0, 1, value[0], value[1], base, out);
    else sum_of_two(task, pair, 0, 0, value[0], value[1], base, out);
    return 1;
}

/* Computes all elements, any number of them. `out` must not overlap an input. */
INLINE void combine_any(const Task *task, uint16_t *out, uint64_t first, Philox *philox, Packed *packed) {
    Pair pair = pair_of(task, packed);
    uint16_t spare[CHUNK];
    for (Py_ssize_t start = 0; start < task->inputs.count; start += CHUNK) {
        Py_ssize_t length = min_length(task->inputs.count - start, CHUNK);
        uint16_t *to = length < CHUNK ? spare : out + start;
        if (!pair.usable || !combine_two(task, &pair, to, start, length, first, philox))
            combine_all(task, to, start, length, first, philox);
        if (length < CHUNK) memcpy(out + start, spare, (size_t)length * sizeof(uint16_t));
    }
}

FMA_CODE static void combine_fma(const Task *task, uint16_t *out, uint64_t first) {
    combine_any(task, out, first, philox_fma, NULL); /* without AVX-512 there is no fast packing */
}
AVX512_CODE static void combine_avx512(const Task *task, uint16_t *out, uint64_t first) {
    combine_any(task, out, first, philox_avx512, PACKED);
}

PyObject *combine(PyObject *self, PyObject *args) {
    PyObject *models, *base, *factors, *weights, *lows, *highs, *result = NULL;
    Py_buffer out;
    unsigned long long first, key;
    double low[MAX_MODELS], high[MAX_MODELS];
    Task task;
    (void)self;
    memset(&task, 0, sizeof task);
    if (!PyArg_ParseTuple(args, "OOw*OOOOddIKKpp", &models, &base, &out, &factors, &weights, &lows, &highs, &task.scale,
                          &task.total, &task.keep, &key, &first, &task.elect, &task.mean))
        return NULL;
    task.key[0] = (uint32_t)key;
    task.key[1] = (uint32_t)(key >> 32);
    Py_ssize_t model_count = PyTuple_Check(models) ? PyTuple_Size(models) : 0;
    if (open_inputs(&task.inputs, models, base) && read_numbers(factors, model_count, task.factor) &&
        read_numbers(weights, model_count, task.weight) &&
        read_numbers(lows, model_count, low) && read_numbers(highs, model_count, high)) {
        for (Py_ssize_t model = 0; model < model_count; model++) {
            task.low[model] = (float)low[model];
            task.high[model] = (float)high[model];
        }
        if (out.len != 2 * task.inputs.count || first % 4) {
            PyErr_SetString(PyExc_ValueError, "out differs in length, or the first element is no multiple of 4");
        } else {
            Py_BEGIN_ALLOW_THREADS;
            DISPATCH(combine)(&task, out.buf, first);
            Py_END_ALLOW_THREADS;
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    close_inputs(&task.inputs);
    PyBuffer_Release(&out);
    return result;
}
