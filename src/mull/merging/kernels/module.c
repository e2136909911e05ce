/* The Python module, and what its functions do with their arguments. */

#include "common.h"

int level;

/* The highest there is here. */
static int best(void) { return FASTEST ? 2 : FASTER ? 1 : 0; }

int open_inputs(Inputs *in, PyObject *models, PyObject *base) {
    memset(in, 0, sizeof *in);
    Py_ssize_t many = PyTuple_Check(models) ? PyTuple_Size(models) : 0;
    if (many < 1 || many > MODELS) {
        PyErr_SetString(PyExc_ValueError, "a tuple of 1 to 16 models is needed");
        return 0;
    }
    in->models = (int)many;
    for (Py_ssize_t m = 0; m < many + (base != Py_None); m++) {
        Py_buffer *view = &in->views[m];
        if (PyObject_GetBuffer(m < many ? PyTuple_GetItem(models, m) : base, view, PyBUF_SIMPLE) < 0) return 0;
        in->held++;
        if (view->len != in->views[0].len || view->len % 2) {
            PyErr_SetString(PyExc_ValueError, "models and base differ in length");
            return 0;
        }
        if (m < many) in->model[m] = view->buf;
        else in->base = view->buf;
    }
    in->count = in->views[0].len / 2;
    return 1;
}

void close_inputs(Inputs *in) {
    for (int i = 0; i < in->held; i++) PyBuffer_Release(&in->views[i]);
}

int numbers(PyObject *tuple, Py_ssize_t count, double *values) {
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
    level = at_most < best() ? at_most : best();
    return PyLong_FromLong(level);
}

static PyMethodDef methods[] = {
    {"use", use, METH_VARARGS,
     "use(at_most): which of the processor's instructions are used from now on, for tests: 0 AVX2 (or any 64-bit Arm),\n"
     "1 AVX-512, 2 its VBMI2 too. Returns what that comes to on this processor. The results are the same."},
    {"interpolate", interpolate, METH_VARARGS,
     "interpolate(near, far, out, high, low): near + (high + low)(far - near) on buffers of bfloat16, rounded to\n"
     "bfloat16 once. Writes bfloat16, or float32 where `out` has twice the bytes. Several threads may call it at once."},
    {"combine", combine, METH_VARARGS,
     "combine(models, base, out, factors, weights, lows, highs, scale, total, keep, key, first, elect, mean): the\n"
     "steps of operations.Combination on buffers of bfloat16."},
    {"mix_rows", mix_rows, METH_VARARGS,
     "mix_rows(models, base, length, factors, out): each row of `length` elements of two models, less the base, times\n"
     "its factors (float64 [rows, 2]), summed and added to the base."},
    {"products", products, METH_VARARGS,
     "products(models, base, length, out): of each row of `length` elements the inner products of all pairs of\n"
     "models, less the base, to the float64 buffer `out` [rows, pairs]; the order of the sums is that of angles.py."},
    {"prune", prune, METH_VARARGS,
     "prune(models, base, out, length, key, first, lowest, epsilon, weights, scale, mean): DELLA's merge of rows of\n"
     "`length` elements, as in methods/della.py."},
    {"sizes", sizes, METH_VARARGS,
     "sizes(models, base, places, lows, highs, outs): for each bracket writes the |models[place] - base| within\n"
     "[low, high] to its float32 buffer as far as there is room; returns how many lie within and how many above."},
    {"spreads", spreads, METH_VARARGS,
     "spreads(models, base, places, lows, highs, outs): the same of the standard deviations over the models."},
    {"squares", squares, METH_VARARGS,
     "squares(models, base, least, out): of each model the sum of the squared differences from the base where the\n"
     "standard deviation is not below `least`, to the float64 buffer `out` [models]."},
    {"fuse", fuse, METH_VARARGS,
     "fuse(models, base, out, least, weights, scale): SCE's merge of what is selected, as in methods/sce.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) {
    if (!FAST) {
        PyErr_SetString(PyExc_ImportError, "this processor has no fused multiply-add");
        return NULL;
    }
    level = best();
    return PyModule_Create(&module);
}
