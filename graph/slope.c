/* slope.c: derivatives of C functions: expressions in ops and in functions bound beside, other C functions, and vector-Jacobian
 * products; and how an op of a C function is recorded. */
#include "foreign.h"

#include <stdio.h>
#include <string.h>

#include "wengert/notation.h"

/* ---- expressions ---- */

/* What names stand for. */
typedef struct scope {
    const wg_bound *b;
    const wg_var *in;
    wg_tape *tape;
} scope;

static int find_operand(const wg_bound *b, const char *name) {
    for (int k = 0; k < b->operands; k++)
        if (strcmp(b->operand[k].name, name) == 0)
            return k;
    return -1;
}

/* The op of an operator or a call: of the library, or bound beside. */
static const wg_op *op_of(const wg_foreign *foreign, const wg_ast *ast) {
    const wg_op_entry *entry = wg_op_find(ast->kind == WG_AST_CALL ? ast->name : wg__ast_op(ast->kind));
    if (entry)
        return entry->op->kind == WG_POINTWISE ? entry->op : NULL;
    return ast->kind == WG_AST_CALL ? wg_foreign_find(foreign, ast->name) : NULL;
}

static wg_var value_of(const scope *s, const wg_ast *ast) {
    if (ast->kind == WG_AST_NUMBER)
        return wg_c(ast->value);
    if (ast->kind == WG_AST_NAME)
        return s->in[find_operand(s->b, ast->name)];
    const wg_op *op = op_of(s->b->foreign, ast);
    if (!op)
        return wg__fail(s->tape, WG_NOT_FOUND, s->b->op.name, "its derivative calls %s, which is not bound", ast->name);
    wg_var operand[WG_PORTS];
    bool bare = true;
    for (int i = 0; i < ast->n; i++) {
        operand[i] = value_of(s, ast->arg[i]);
        bare = bare && wg__is_bare(operand[i]);
    }
    if (op->arity != ast->n)
        return wg__fail(s->tape, WG_ARGUMENT, s->b->op.name, "its derivative calls %s with %d operands", ast->name, ast->n);
    if (bare && op->map[WG_F64 - WG_F32])
        return wg__pointwise_number(op, ast->n, operand);
    if (bare)
        operand[0] = wg_full(s->tape, (wg_dtype)wg__of(s->in[0])->dtype, 0, NULL, operand[0].as.value);
    return wg_call_op(op, ast->n, operand);
}

/* What can be told of an expression before it is used. */
static wg_status check_expression(const wg_bound *b, const wg_source *source, const wg_ast *ast, wg_error *error) {
    const wg_op_entry *entry = ast->kind == WG_AST_CALL ? wg_op_find(ast->name) : NULL;
    if (ast->kind == WG_AST_NUMBER)
        return WG_OK;
    if (ast->kind == WG_AST_NAME)
        return find_operand(b, ast->name) >= 0
                   ? WG_OK
                   : wg__source_error(source, error, WG_NOT_FOUND, ast->line, ast->column, "%s is no operand of %s", ast->name, b->op.name);
    if (ast->kind != WG_AST_CALL && !wg__ast_op(ast->kind)[0])
        return wg__source_error(source, error, WG_UNSUPPORTED, ast->line, ast->column, "'%s' has no meaning in a derivative",
                                wg__ast_spelling(ast->kind));
    if (ast->n > WG_PORTS || (entry && (entry->op->kind != WG_POINTWISE || entry->op->arity != ast->n)))
        return wg__source_error(source, error, WG_ARGUMENT, ast->line, ast->column, "%s is no pointwise op of %d operand%s", ast->name, ast->n,
                                ast->n == 1 ? "" : "s");
    wg_status status = WG_OK;
    for (int i = 0; i < ast->n && status == WG_OK; i++)
        status = check_expression(b, source, ast->arg[i], error);
    return status;
}

/* The first call of a function that is not there, or NULL. */
static const wg_ast *missing(const wg_foreign *foreign, const wg_ast *ast) {
    if (ast->kind == WG_AST_CALL && !op_of(foreign, ast))
        return ast;
    const wg_ast *found = NULL;
    for (int i = 0; i < ast->n && !found; i++)
        found = missing(foreign, ast->arg[i]);
    return found;
}

wg_status wg__foreign_complete(const wg_foreign *foreign, int from, wg_error *error) {
    for (int i = from; i < wg_foreign_count(foreign); i++) {
        const wg_bound *b = wg__bound_of(wg_foreign_op(foreign, i));
        for (int k = 0; k < b->operands; k++) {
            const wg_ast *call = b->partial[k] ? missing(foreign, b->partial[k]) : NULL;
            if (call)
                return wg_error_set(error, WG_NOT_FOUND, "use: the derivative of %s calls %s, which is not bound", b->op.name, call->name);
        }
    }
    return WG_OK;
}

/* ---- rules ---- */

/* The axes of their own that a partial derivative by operand k has: the result's or the operand's, of which one may be a number. */
static int slope_rank(const wg_bound *b, int k) {
    int out = wg__port_rank(&b->out[0]), in = wg__port_rank(&b->operand[k]);
    return out > in ? out : in;
}

/* What has fewer axes of its own than there are, with axes of length 1 between them and the rows. */
static wg_var along(wg_var x, int own, int axes) {
    int64_t dim[2 * WG_MAX_RANK];
    const wg_shape *shape = wg_var_shape(x);
    if (!shape || own >= axes)
        return x;
    const int rows = shape->rank - own;
    memcpy(dim, shape->dim, sizeof *dim * (size_t)rows);
    for (int a = 0; a < axes - own; a++)
        dim[rows + a] = 1;
    memcpy(dim + rows + axes - own, shape->dim + rows, sizeof *dim * (size_t)own);
    return reshape(x, rows + axes, dim);
}

static wg_var typed_as(wg_var x, wg_var like) {
    return wg__recordable(x) && wg__of(x)->dtype != wg__of(like)->dtype ? wg_cast(x, (wg_dtype)wg__of(like)->dtype) : x;
}

/* x, summed over its last axes where what it belongs to is a number for each row; else of that shape. */
static wg_var settled_as(wg_var x, int own, int axes, wg_var like) {
    int last[WG_MAX_RANK];
    for (int a = 0; a < axes; a++)
        last[a] = a - axes;
    x = own == 0 && axes > 0 ? wg_sum(x, axes, last, false) : x;
    const wg_shape *want = wg__of(like)->shape;
    if (wg__recordable(x) && wg__of(x)->shape != want)
        x = wg_broadcast_to(x, want->rank, want->dim);
    return typed_as(x, like);
}

/* The partial derivative by an operand, of the shape of the result or of the operand, whichever has more axes. */
static wg_var partial_of(const wg_rule *r, const wg_bound *b, int k) {
    wg_var in[WG_PORTS];
    const int axes = slope_rank(b, k);
    const bool mixed = wg__port_rank(&b->out[0]) != wg__port_rank(&b->operand[k]);
    if (!mixed && wg__of(r->in[k])->shape != wg__of(r->y)->shape)
        return wg__fail(r->tape, WG_DERIVATIVE, b->op.name, "a derivative of elements is known, but %s is not of the result's shape", b->operand[k].name);
    if (mixed && wg__port_rank(&b->out[0]) > 0 && wg__port_rank(&b->operand[k]) > 0)
        return wg__fail(r->tape, WG_DERIVATIVE, b->op.name, "a derivative of elements is known, but %s has not the result's axes", b->operand[k].name);
    for (int i = 0; i < r->n; i++)
        in[i] = along(r->in[i], wg__port_rank(&b->operand[i]), axes);
    const scope s = {b, in, r->tape};
    wg_var d = b->slope[k] ? wg_call_op(&b->slope[k]->op, r->n, r->in) : value_of(&s, b->partial[k]);
    const wg_shape *full = wg__of(wg__port_rank(&b->out[0]) == axes ? r->y : r->in[k])->shape;
    if (wg__is_bare(d))
        return wg_full(r->tape, (wg_dtype)wg__of(r->y)->dtype, full->rank, full->dim, d.as.value);
    if (wg__recordable(d) && !wg__broadcasts(wg__of(d)->shape, full))
        return wg__fail(r->tape, WG_DERIVATIVE, b->op.name, "its derivative by %s is %s, not %s", b->operand[k].name, WG_SHAPE_TEXT(wg__of(d)->shape),
                        WG_SHAPE_TEXT(full));
    return wg__recordable(d) ? wg_broadcast_to(d, full->rank, full->dim) : d;
}

static void partials_vjp(const wg_rule *r, wg_var *dx) {
    const wg_bound *b = (const wg_bound *)r->op;
    for (int k = 0; k < r->n && r->tape->status == WG_OK; k++) {
        if (!r->need[k] || wg__port_is_whole(&b->operand[k]))
            continue;
        const int axes = slope_rank(b, k);
        wg_var d = partial_of(r, b, k);
        if (wg_valid(d))
            dx[k] = settled_as(mul(along(r->g, wg__port_rank(&b->out[0]), axes), typed_as(d, r->g)), wg__port_rank(&b->operand[k]), axes, r->in[k]);
    }
}

static wg_var partials_jvp(const wg_rule *r, const wg_var *dx) {
    const wg_bound *b = (const wg_bound *)r->op;
    wg_var sum = {0};
    for (int k = 0; k < r->n && r->tape->status == WG_OK; k++) {
        if (!dx[k].tape || wg__port_is_whole(&b->operand[k]))
            continue;
        const int axes = slope_rank(b, k);
        wg_var d = partial_of(r, b, k);
        if (!wg_valid(d))
            return d;
        wg_var part = settled_as(mul(along(dx[k], wg__port_rank(&b->operand[k]), axes), typed_as(d, dx[k])), wg__port_rank(&b->out[0]), axes, r->y);
        sum = sum.tape ? add(sum, part) : part;
    }
    return sum;
}

/* The cotangents that a vector-Jacobian product makes: one, or one after another along the last axis. */
static void foreign_vjp(const wg_rule *r, wg_var *dx) {
    const wg_bound *b = (const wg_bound *)r->op, *v = b->vjp;
    wg_var in[WG_PORTS];
    int64_t count[WG_PORTS], from = 0;
    for (int k = 0; k < v->operands; k++)
        in[k] = b->vjp_reads[k] == WG_READS_COTANGENT ? r->g : b->vjp_reads[k] == WG_READS_RESULT ? r->y : r->in[b->vjp_reads[k]];
    wg_var all = wg_call_op(&v->op, v->operands, in);
    if (!wg__recordable(all))
        return;
    wg__bound_counts(v, in, count);
    for (int k = 0; k < v->outs && wg__recordable(all); from += count[k++]) {
        const wg_var operand = r->in[b->vjp_writes[k]];
        const wg_shape *shape = wg__of(operand)->shape;
        int64_t own = 1;
        for (int a = shape->rank - wg__port_rank(&b->operand[b->vjp_writes[k]]); a < shape->rank; a++)
            own *= shape->dim[a];
        if (own != count[k]) {
            wg__fail(r->tape, WG_SHAPE, v->op.name, "%s has %lld elements, %s %lld", v->out[k].name ? v->out[k].name : "what it returns", (long long)count[k],
                     b->operand[b->vjp_writes[k]].name, (long long)own);
            return;
        }
        if (r->need[b->vjp_writes[k]])
            dx[b->vjp_writes[k]] = typed_as(reshape(v->outs == 1 ? all : wg_slice(all, -1, from, own), shape->rank, shape->dim), operand);
    }
}

/* ---- reading them ---- */

/* Where the first piece of a list ends: at a comma outside of all brackets. */
static size_t piece(const char *text) {
    size_t at = 0;
    int depth = 0;
    for (; text[at] && !(text[at] == ',' && depth == 0); at++)
        depth += strchr("([{", text[at]) ? 1 : strchr(")]}", text[at]) ? -1 : 0;
    return at;
}

/* Two names in a row begin a prototype and no expression. */
static bool is_prototype(const wg_source *source, wg_arena *arena) {
    wg_parser parser;
    wg_error unused = {0};
    wg__parser_begin(&parser, source, arena, &unused);
    return parser.now.kind == WG_TOKEN_NAME && parser.ahead.kind == WG_TOKEN_NAME;
}

static wg_binding beside(const wg_binding *binding, const char *prototype, const char *name, void (*function)(void)) {
    return (wg_binding){.prototype = prototype, .library = binding->library, .function = function, .name = name,
                        .serial = binding->serial, .nan = binding->nan, .user = binding->user};
}

static const char *joined(wg_arena *arena, const char *name, const char *suffix) {
    size_t size = strlen(name) + strlen(suffix) + 1;
    char *text = wg__arena_take(arena, size);
    if (text)
        snprintf(text, size, "%s%s", name, suffix);
    return text;
}

static wg_status no_memory(const wg_bound *b, wg_error *error) {
    return wg_error_set(error, wg__refusal(wg__foreign_arena(b->foreign)->memory), "use: no memory");
}

/* One derivative of the list, by operand k. */
static wg_status read_partial(wg_bound *b, const wg_binding *binding, int k, const char *text, size_t size, wg_error *error) {
    wg_arena *arena = wg__foreign_arena(b->foreign);
    for (; size && *text == ' '; text++)
        size--;
    while (size && text[size - 1] == ' ')
        size--;
    char *own = wg__arena_take(arena, size + 1);
    if (!own)
        return no_memory(b, error);
    memcpy(own, text, size);
    own[size] = 0;
    const wg_source source = {"derivative", own, size};
    if (!is_prototype(&source, arena)) {
        wg_ast *ast = NULL;
        wg_status status = wg__expr_parse(&source, arena, &ast, error);
        b->partial[k] = ast;
        return status == WG_OK ? check_expression(b, &source, ast, error) : status;
    }
    const char *name = joined(arena, b->op.name, ".derivative");
    wg_binding slope = beside(binding, own, name, binding->derivative_function);
    b->slope[k] = name ? wg__bind_hidden(b->foreign, &slope, error) : NULL;
    if (!name)
        return no_memory(b, error);
    if (!b->slope[k])
        return error->status;
    if (b->slope[k]->operands != b->operands || b->slope[k]->outs != 1)
        return wg_error_set(error, WG_ARGUMENT, "use: the derivative '%s' does not take what %s takes", own, b->op.name);
    ((wg_bound *)(uintptr_t)b->slope[k])->op.traits |= WG_IS_OPAQUE;
    return WG_OK;
}

static int next_float(const wg_bound *b, int k) {
    while (k < b->operands && wg__port_is_whole(&b->operand[k]))
        k++;
    return k;
}

static wg_status read_partials(wg_bound *b, const wg_binding *binding, wg_error *error) {
    int k = next_float(b, 0), wanted = 0, given = 1;
    for (int i = next_float(b, 0); i < b->operands; i = next_float(b, i + 1))
        wanted++;
    const char *at = binding->derivative;
    for (const char *c = at; c[piece(c)]; c += piece(c) + 1)
        given++;
    if (given != wanted)
        return wg_error_set(error, WG_ARGUMENT, "use: %d derivative%s for the %d float operand%s of %s", given, given == 1 ? "" : "s", wanted,
                            wanted == 1 ? "" : "s", b->op.name);
    wg_status status = WG_OK;
    for (; k < b->operands && status == WG_OK; k = next_float(b, k + 1)) {
        size_t size = piece(at);
        status = read_partial(b, binding, k, at, size, error);
        at += size + (at[size] == ',');
    }
    b->op.vjp = partials_vjp;
    b->op.jvp = partials_jvp;
    return status;
}

/* The name of the result in a vector-Jacobian product. */
static const char *result_name(const wg_bound *b) {
    if (b->out[0].name)
        return b->out[0].name;
    return find_operand(b, "y") < 0 ? "y" : "result";
}

static bool is_cotangent(const char *name, const char *of) { return name[0] == 'g' && strcmp(name + 1, of) == 0; }

/* A pointer without brackets leads to one number where what it stands for is one. */
static void match_rank(wg_port *port, const wg_port *to) {
    if (port->slot->lengths == 0 && port->slot->type->kind == WG_CTYPE_POINTER && wg__port_rank(to) == 0)
        port->rank = 0;
}

static wg_status match_vjp(wg_bound *b, wg_error *error) {
    wg_bound *v = (wg_bound *)(uintptr_t)b->vjp;
    const char *y = result_name(b);
    for (int k = 0; k < v->operands; k++) {
        const char *name = v->operand[k].name;
        int operand = find_operand(b, name);
        if (operand < 0 && !is_cotangent(name, y) && strcmp(name, y) != 0)
            return wg_error_set(error, WG_ARGUMENT, "use: vjp reads %s, which is no operand of %s, nor g%s or %s", name, b->op.name, y, y);
        match_rank(&v->operand[k], operand >= 0 ? &b->operand[operand] : &b->out[0]);
        b->vjp_reads[k] = (int8_t)(operand >= 0 ? operand : is_cotangent(name, y) ? WG_READS_COTANGENT : WG_READS_RESULT);
    }
    for (int k = 0; k < v->outs; k++) {
        const char *name = v->out[k].name;
        int to = -1, floats = 0;
        for (int i = next_float(b, 0); i < b->operands; i = next_float(b, i + 1), floats++)
            if (name ? is_cotangent(name, b->operand[i].name) : floats == 0)
                to = i;
        if (to < 0 || (!name && floats != 1))
            return wg_error_set(error, WG_ARGUMENT, "use: vjp makes %s, which is g and the name of no float operand of %s", name ? name : "a value",
                                b->op.name);
        match_rank(&v->out[k], &b->operand[to]);
        b->vjp_writes[k] = (int8_t)to;
    }
    for (int i = next_float(b, 0); i < b->operands; i = next_float(b, i + 1)) {
        int written = 0;
        for (int k = 0; k < v->outs; k++)
            written += b->vjp_writes[k] == i;
        if (written != 1)
            return wg_error_set(error, WG_ARGUMENT, "use: vjp writes no g%s", b->operand[i].name);
    }
    return WG_OK;
}

static wg_status read_vjp(wg_bound *b, const wg_binding *binding, wg_error *error) {
    const char *name = joined(wg__foreign_arena(b->foreign), b->op.name, ".vjp");
    wg_binding vjp = beside(binding, binding->vjp, name, binding->vjp_function);
    if (!name)
        return no_memory(b, error);
    b->vjp = wg__bind_hidden(b->foreign, &vjp, error);
    if (!b->vjp)
        return error->status;
    ((wg_bound *)(uintptr_t)b->vjp)->op.traits |= WG_IS_OPAQUE;
    b->op.vjp = foreign_vjp;
    return match_vjp(b, error);
}

wg_status wg__bound_derive(wg_bound *b, const wg_binding *binding, wg_error *error) {
    if (binding->derivative && binding->vjp)
        return wg_error_set(error, WG_ARGUMENT, "use: a derivative or a vjp, not both");
    return binding->derivative ? read_partials(b, binding, error) : binding->vjp ? read_vjp(b, binding, error) : WG_OK;
}

/* ---- recording ---- */

/* The rows that all operands broadcast to. False, with the tape's failure set, if there are none. */
static bool common_rows(const wg_bound *b, wg_tape *tape, const wg_var *in, wg_shape *rows) {
    *rows = (wg_shape){.count = 1};
    for (int k = 0; k < b->operands; k++) {
        const wg_shape *shape = wg_var_shape(in[k]);
        wg_shape own, both;
        int rank = shape ? shape->rank - wg__port_rank(&b->operand[k]) : 0;
        if (rank < 0)
            continue; /* the op's rule says what is wrong */
        wg__shape_set(&own, rank, shape ? shape->dim : NULL);
        if (!wg__broadcast(rows, &own, &both)) {
            wg__fail(tape, WG_SHAPE, b->op.name, "the rows of %s are %s, those before %s", b->operand[k].name, WG_SHAPE_TEXT(&own), WG_SHAPE_TEXT(rows));
            return false;
        }
        *rows = both;
    }
    return true;
}

/* An operand of a function of arrays: of its type, with the rows of all. */
static wg_var settled(const wg_bound *b, wg_tape *tape, int k, wg_var x, wg_dtype first, const wg_shape *rows) {
    const wg_port *port = &b->operand[k];
    int64_t dim[2 * WG_MAX_RANK];
    if (wg__is_bare(x))
        return port->dtype ? wg__fail(tape, WG_ARGUMENT, b->op.name, "%s is an array, not a number", port->name)
                           : wg_full(tape, first, rows->rank, rows->dim, x.as.value);
    if (port->dtype && port->dtype != WG_I32 && wg_var_dtype(x) != WG_I32 && wg_var_dtype(x) != port->dtype)
        x = wg_cast(x, port->dtype);
    const wg_shape *shape = wg_var_shape(x);
    int own = wg__port_rank(port);
    if (!shape || shape->rank < own || rows->rank + own > WG_MAX_RANK)
        return x;
    memcpy(dim, rows->dim, sizeof *dim * (size_t)rows->rank);
    memcpy(dim + rows->rank, shape->dim + shape->rank - own, sizeof *dim * (size_t)own);
    return shape->rank == rows->rank + own && memcmp(dim, shape->dim, sizeof *dim * (size_t)shape->rank) == 0
               ? x
               : wg_broadcast_to(x, rows->rank + own, dim);
}

static wg_var call_rows(const wg_bound *b, const wg_var *in) {
    wg_tape *tape = wg__tape_of(b->operands, in);
    wg_var settled_in[WG_PORTS];
    wg_shape rows;
    wg_dtype first = 0, given = 0;
    for (int k = 0; k < b->operands; k++) {
        if (!wg_valid(in[k]) || (!wg__is_bare(in[k]) && in[k].tape != tape))
            return wg_apply(&b->op, b->operands, in, NULL); /* which says what is wrong */
        first = wg__is_bare(in[k]) || wg_var_dtype(in[k]) == WG_I32 || first ? first : wg_var_dtype(in[k]);
        given = given || wg__is_bare(in[k]) || wg_var_dtype(in[k]) == WG_I32 ? given : wg_var_dtype(in[k]);
    }
    first = first ? first : WG_F64;
    if (!tape || !common_rows(b, tape, in, &rows))
        return wg__var(tape, 0);
    for (int k = 0; k < b->operands; k++) {
        settled_in[k] = settled(b, tape, k, in[k], first, &rows);
        if (!wg_valid(settled_in[k]))
            return settled_in[k];
    }
    wg_var y = wg_apply(&b->op, b->operands, settled_in, NULL);
    return wg__recordable(y) && given && wg__of(y)->dtype != WG_I32 && wg__of(y)->dtype != given ? wg_cast(y, given) : y;
}

/* i32 operands become floats like the others. */
static wg_var call_elements(const wg_bound *b, const wg_var *in) {
    wg_var cast[3];
    wg_dtype dtype = 0;
    for (int k = 0; k < b->operands; k++)
        if (wg__on_tape(in[k]) && wg_var_dtype(in[k]) != WG_I32 && !dtype)
            dtype = wg_var_dtype(in[k]);
    for (int k = 0; k < b->operands; k++)
        cast[k] = wg__recordable(in[k]) && wg_var_dtype(in[k]) == WG_I32 ? wg_cast(in[k], dtype ? dtype : WG_F64) : in[k];
    return wg__pointwise(&b->op, b->operands, cast);
}

wg_var wg_call_op(const wg_op *op, int n, const wg_var *in) {
    if (n != op->arity || n < 1)
        return wg_apply(op, n, in, NULL);
    const wg_bound *b = wg__bound_of(op);
    if (op->kind == WG_POINTWISE && n <= 3)
        return b ? call_elements(b, in) : wg__pointwise(op, n, in);
    return b ? call_rows(b, in) : wg_apply(op, n, in, NULL);
}
