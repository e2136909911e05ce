/* The Python module, and how the functions in all files read their arguments. */

#include "common.h"

int simd_level;

/* The highest level that this processor has. */
static int best_level(void) { return HAS_VBMI2 ? 2 : HAS_AVX512 ? 1 : 0; }

int open_inputs(Inputs *inputs, PyObject *models, PyObject *base) {
    memset(inputs, 0, sizeof *inputs);
    Py_ssize_t model_count = PyTuple_Check(models) ? PyTuple_Size(models) : 0;
    if (model_count < 1 || model_count > MAX_MODELS) {
        PyErr_SetString(PyExc_ValueError, "a tuple of 1 to 16 models is needed");
        return 0;
    }
    inputs->model_count = (int)model_count;
    for (Py_ssize_t model = 0; model < model_count + (base != Py_None); model++) {
        Py_buffer *view = &inputs->views[model];
        PyObject *tensor = model < model_count ? PyTuple_GetItem(models, model) : base;
        if (PyObject_GetBuffer(tensor, view, PyBUF_SIMPLE) < 0) return 0;
        inputs->view_count++;
        if (view->len != inputs->views[0].len || view->len % 2) {
            PyErr_SetString(PyExc_ValueError, "models and base differ in length");
            return 0;
        }
        if (model < model_count) inputs->models[model] = view->buf;
        else inputs->base = view->buf;
    }
    inputs->count = inputs->views[0].len / 2;
    return 1;
}

void close_inputs(Inputs *inputs) {
    for (int i = 0; i < inputs->view_count; i++) PyBuffer_Release(&inputs->views[i]);
}

int read_numbers(PyObject *tuple, Py_ssize_t count, double *values) {
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != count) {
        PyErr_SetString(PyExc_ValueError, "one number for each model is needed");
        return 0;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        values[i] = PyFloat_AsDouble(PyTuple_GetItem(tuple, i));
        if (PyErr_Occurred()) return 0;
    }
    return 1;
}

static PyObject *use(PyObject *self, PyObject *args) {
    int at_most;
    (void)self;
    if (!PyArg_ParseTuple(args, "i", &at_most)) return NULL;
    if (at_most < 0) {
        PyErr_SetString(PyExc_ValueError, "a level is 0 or more");
        return NULL;
    }
    simd_level = at_most < best_level() ? at_most : best_level();
    return PyLong_FromLong(simd_level);
}

static PyMethodDef methods[] = {
    {"use", use, METH_VARARGS,
     "use(at_most): limit the processor instructions in use from now on, for tests: 0 AVX2 (or any 64-bit Arm),\n"
     "1 AVX-512, 2 AVX-512 VBMI2. Returns the level now in use: the highest of these that the processor has. The\n"
     "results are the same at every level."},
    {"all_below", all_below, METH_VARARGS,
     "all_below(values, limit): whether all 16-bit numbers of the buffer are below `limit` without their sign bits."},
    {"interpolate", interpolate, METH_VARARGS,
     "interpolate(near, far, out, high, low): near + (high + low)(far - near) on buffers of bfloat16, computed in\n"
     "float32 and then rounded to bfloat16. Writes bfloat16, or the same values as float32 if `out` has twice the\n"
     "bytes."},
    {"combine", combine, METH_VARARGS,
     "combine(models, base, out, factors, weights, lows, highs, scale, total, keep, key, first, elect, mean): the\n"
     "steps of operations.Combination on buffers of bfloat16."},
    {"mix_rows", mix_rows, METH_VARARGS,
     "mix_rows(models, base, length, factors, out): for each row of `length` elements the sum of two models'\n"
     "differences from the base, times the row's factors (float64 [rows, 2]), added to the base."},
    {"products", products, METH_VARARGS,
     "products(models, base, length, out): for each row of `length` elements, write the inner products of all pairs\n"
     "of models' differences from the base to the float64 buffer `out` [rows, pairs], in the order of angles.py."},
    {"prune", prune, METH_VARARGS,
     "prune(models, base, out, length, key, first, lowest, epsilon, weights, scale, mean): DELLA's merge of rows of\n"
     "`length` elements, as in methods/della.py."},
    {"sizes", sizes, METH_VARARGS,
     "sizes(models, base, places, lows, highs, outs): for each bracket, write the sizes |models[place] - base| within\n"
     "[low, high] to its float32 buffer while there is room. Returns how many lie within and how many above."},
    {"spreads", spreads, METH_VARARGS,
     "spreads(models, base, places, lows, highs, outs): the same for the standard deviations over the models."},
    {"squares", squares, METH_VARARGS,
     "squares(models, base, least, out): for each model, write the sum of the squared differences from the base,\n"
     "where the standard deviation is at least `least`, to the float64 buffer `out` [models]."},
    {"fuse", fuse, METH_VARARGS,
     "fuse(models, base, out, least, weights, scale): SCE's merge of the selected elements, as in methods/sce.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) {
    if (!HAS_FMA) {
        PyErr_SetString(PyExc_ImportError, "this processor has no fused multiply-add");
        return NULL;
    }
    simd_level = best_level();
    return PyModule_Create(&module);
}
