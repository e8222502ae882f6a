/* record.c: one step of a cell, from its syntax tree to the tape. Reads the checked tree only; what a function means is
 * said here, once. Vectors are (B,n), or (n) if they depend on no batch. */
#include "cell.h"

#include <string.h>

static wg_var value_of(wg_step *step, const wg_ast *ast);

static wg_var failed(wg_step *step, wg_status status, const char *what, const char *text) {
    return wg__fail(step->tape, status, what, "%s", text);
}

double wg__step_number(wg_step *step, const wg_ast *ast) {
    double number = 0;
    wg_error error = {0};
    wg_status status = wg__lang_number(step->cell->lang, &step->cell->lang->source, ast, step->input, step->hidden, &number, &error);
    if (status != WG_OK)
        failed(step, status, wg_cell_name(step->cell), error.text);
    return number;
}

static int64_t length_of(wg_step *step, const wg_ast *ast) { return (int64_t)wg__step_number(step, ast); }

/* A bare constant made an array of one element, where an op needs one. */
static wg_var solid(wg_step *step, wg_var x) {
    return wg__is_bare(x) ? wg_full(step->tape, step->dtype, 1, (const int64_t[]){1}, x.as.value) : x;
}

/* A vector with its batch axis: (n) becomes (B,n). */
static wg_var batched(wg_step *step, wg_var x) {
    x = solid(step, x);
    return wg_rank(x) == 1 ? wg_broadcast_to(x, 2, (const int64_t[]){step->batch, wg_dim(x, 0)}) : x;
}

static wg_var concatenation(wg_step *step, const wg_ast *ast) {
    wg_var part[64];
    bool rows = false;
    if (ast->n > WG_LEN(part))
        return failed(step, WG_UNSUPPORTED, "concat", "more than 64 arguments");
    for (int i = 0; i < ast->n; i++) {
        part[i] = solid(step, value_of(step, ast->arg[i]));
        rows = rows || wg_rank(part[i]) == 2;
    }
    for (int i = 0; i < ast->n && rows; i++)
        part[i] = batched(step, part[i]);
    return wg_concat(ast->n, part, -1);
}

/* index(n): 0 … n-1, as a leaf. */
static wg_var counting(wg_step *step, int64_t n) {
    wg_tensor *tensor = wg_tensor_new(step->tape->memory, step->dtype, 1, &n);
    if (!tensor)
        return failed(step, wg__refusal(step->tape->memory), "index", "no memory");
    for (int64_t i = 0; i < n; i++)
        wg_tensor_set(tensor, i, (double)i);
    wg_var leaf = wg_leaf(step->tape, tensor);
    wg_tensor_free(tensor);
    return leaf;
}

static wg_var random_key(wg_step *step, const char *name) {
    return step->key.tape ? step->key : failed(step, WG_ARGUMENT, name, "training draws, but the unroll was given no key");
}

static wg_var dropped(wg_step *step, wg_var v, double p) {
    if (!step->training || p == 0)
        return v;
    return wg_dropout(batched(step, v), p, random_key(step, "dropout"));
}

static wg_var coins(wg_step *step, double p, int64_t n) {
    const int64_t dim[2] = {step->batch, n};
    if (!step->training)
        return wg_full(step->tape, step->dtype, 2, dim, p);
    return wg_bernoulli(random_key(step, "bernoulli"), step->dtype, 2, dim, p);
}

enum { LAST = -1 };
static const int last_axis[1] = {LAST};

/* softmax and the like: v to v's shape, along the last axis. */
static wg_var same_shape(wg_step *step, const char *name, wg_var v) {
    v = solid(step, v);
    if (strcmp(name, "softmax") == 0)
        return wg_softmax(v, LAST);
    if (strcmp(name, "log_softmax") == 0)
        return wg_log_softmax(v, LAST);
    if (strcmp(name, "layer_norm") == 0)
        return wg_layer_norm(v, 1e-5);
    if (strcmp(name, "rms_norm") == 0)
        return wg_rms_norm(v, 1e-5);
    if (strcmp(name, "cumsum") == 0)
        return wg_cumsum(v, LAST);
    if (strcmp(name, "stop_gradient") == 0)
        return wg_stop_gradient(v);
    return failed(step, WG_UNSUPPORTED, name, "this function is not supported in cells yet");
}

static wg_var pointwise(wg_step *step, const char *name, const wg_ast *ast) {
    wg_var operand[3];
    const wg_op_entry *entry = wg_op_find(name);
    if (!entry || entry->op->kind != WG_POINTWISE || entry->op->arity != ast->n)
        return failed(step, WG_UNSUPPORTED, name, "no such pointwise op");
    bool bare = true;
    for (int i = 0; i < ast->n; i++) {
        operand[i] = value_of(step, ast->arg[i]);
        bare = bare && wg__is_bare(operand[i]);
    }
    if (bare) /* numbers only: one of them carries the tape */
        operand[0] = solid(step, operand[0]);
    return wg__pointwise(entry->op, ast->n, operand);
}

static wg_var call(wg_step *step, const wg_ast *ast) {
    wg_var v;
    switch (wg__function_at(ast->symbol).kind) {
    case WG_FUNCTION_POINTWISE: return pointwise(step, ast->name, ast);
    case WG_FUNCTION_SAME: return same_shape(step, ast->name, value_of(step, ast->arg[0]));
    case WG_FUNCTION_CONCAT: return concatenation(step, ast);
    case WG_FUNCTION_REDUCE:
        v = solid(step, value_of(step, ast->arg[0]));
        return ast->name[0] == 's' ? wg_sum(v, 1, last_axis, true) : wg_mean(v, 1, last_axis, true);
    case WG_FUNCTION_DOT:
        v = wg_mul(solid(step, value_of(step, ast->arg[0])), value_of(step, ast->arg[1]));
        return wg_sum(v, 1, last_axis, true);
    case WG_FUNCTION_SLICE:
        v = solid(step, value_of(step, ast->arg[0]));
        return wg_slice(v, LAST, length_of(step, ast->arg[1]), length_of(step, ast->arg[2]));
    case WG_FUNCTION_DROPOUT:
        return dropped(step, value_of(step, ast->arg[0]), wg__step_number(step, ast->arg[1]));
    case WG_FUNCTION_BERNOULLI:
        return coins(step, wg__step_number(step, ast->arg[0]), length_of(step, ast->arg[1]));
    case WG_FUNCTION_INDEX: return counting(step, length_of(step, ast->arg[0]));
    case WG_FUNCTION_LATER: break;
    }
    return failed(step, WG_UNSUPPORTED, ast->name, "this function is not supported in cells yet");
}

static wg_var named(wg_step *step, const wg_ast *ast) {
    const wg_symbol *symbol = &step->cell->lang->symbol[ast->symbol];
    if (symbol->kind == WG_SYMBOL_SIZE || symbol->kind == WG_SYMBOL_CONST)
        return wg_c(wg__step_number(step, ast));
    return step->now[ast->symbol];
}

static wg_var value_of(wg_step *step, const wg_ast *ast) {
    switch (ast->kind) {
    case WG_AST_NUMBER: return wg_c(ast->value);
    case WG_AST_NAME: return named(step, ast);
    case WG_AST_NEXT: return step->next[ast->arg[0]->symbol];
    case WG_AST_MATMUL: return wg_linear(solid(step, value_of(step, ast->arg[1])), value_of(step, ast->arg[0]));
    case WG_AST_CALL: return call(step, ast);
    default: break;
    }
    const char *op = wg__ast_op(ast->kind);
    if (!op[0])
        return failed(step, WG_UNSUPPORTED, wg__ast_spelling(ast->kind), "this is not supported in cells yet");
    return pointwise(step, op, ast);
}

/* A state's next value always has the state's own shape (B,n). */
static wg_var settled(wg_step *step, int symbol, wg_var value) {
    wg_shape shape;
    wg_error error = {0};
    wg_status status = wg__lang_shape(step->cell->lang, symbol, step->input, step->hidden, &shape, &error);
    if (status != WG_OK)
        return failed(step, status, wg_cell_name(step->cell), error.text);
    if (!wg__is_bare(value) && !wg_valid(value))
        return value;
    const int64_t dim[2] = {step->batch, shape.dim[0]};
    value = solid(step, value);
    if (wg_rank(value) == 2 && wg_dim(value, 0) == dim[0] && wg_dim(value, 1) == dim[1])
        return value;
    return wg_broadcast_to(value, 2, dim);
}

static wg_status record_equations(wg_step *step) {
    const wg_lang *lang = step->cell->lang;
    for (int64_t e = 0; e < lang->equations && step->tape->status == WG_OK; e++) {
        const wg_equation *equation = &lang->equation[e];
        uint32_t before = wg__origin_set(step->tape, step->origin[e]);
        wg_var value = value_of(step, equation->value);
        if (equation->next)
            step->next[equation->symbol] = settled(step, equation->symbol, value);
        else
            step->now[equation->symbol] = value;
        wg__origin_set(step->tape, before);
    }
    return step->tape->status;
}

static wg_status record_in_c(wg_step *step) {
    const wg_cell *cell = step->cell;
    wg_status status = cell->step(step, cell->user);
    if (status == WG_OK)
        status = step->tape->status;
    else
        wg__fail(step->tape, status, wg_cell_name(cell), "its step function failed");
    for (int i = 0; i < cell->lang->states && status == WG_OK; i++)
        if (!step->next[cell->lang->state[i]].tape) {
            wg__fail(step->tape, WG_ARGUMENT, wg_cell_name(cell), "its step gave state %s no next value",
                     wg_cell_state(cell, i));
            status = step->tape->status;
        }
    return status;
}

wg_status wg__step_record(wg_step *step) {
    return step->cell->step ? record_in_c(step) : record_equations(step);
}

/* ---- what a C step may call ---- */

wg_tape *wg_step_tape(const wg_step *step) { return step->tape; }

static bool is_input_like(wg_symbol_kind kind) {
    return kind == WG_SYMBOL_INPUT || kind == WG_SYMBOL_STATE || kind == WG_SYMBOL_PARAM;
}

wg_var wg_step_get(wg_step *step, const char *name) {
    int symbol = wg__lang_find(step->cell->lang, name);
    if (symbol >= 0 && is_input_like(step->cell->lang->symbol[symbol].kind))
        return step->now[symbol];
    return wg__fail(step->tape, WG_NOT_FOUND, wg_cell_name(step->cell), "it declares no input, state or parameter %s",
                    name);
}

wg_status wg_step_set(wg_step *step, const char *name, wg_var value) {
    int symbol = wg__lang_find(step->cell->lang, name);
    if (symbol >= 0) {
        if (step->cell->lang->symbol[symbol].kind != WG_SYMBOL_STATE)
            wg__fail(step->tape, WG_CONFLICT, wg_cell_name(step->cell), "%s is declared and not a state", name);
        else
            step->next[symbol] = settled(step, symbol, value);
        return step->tape->status;
    }
    for (int64_t i = 0; i < step->extras; i++)
        if (strcmp(step->extra[i].name, name) == 0) {
            step->extra[i].var = value;
            return step->tape->status;
        }
    if (!wg__room(step->tape->memory, (void **)&step->extra, step->extras, &step->extra_room, sizeof *step->extra)) {
        failed(step, wg__refusal(step->tape->memory), wg_cell_name(step->cell), "no memory for a name");
        return step->tape->status;
    }
    step->extra[step->extras++] = (wg_named){name, value};
    return step->tape->status;
}
