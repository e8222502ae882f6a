/* prototype.c: prototypes of C functions, read by recursive descent over the tokens of expressions. */
#include "prototype.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct reading {
    wg_parser parser;
    int depth; /* structs in each other */
} reading;

static void *take(reading *r, size_t bytes) {
    void *block = wg__arena_take(r->parser.arena, bytes);
    return block ? memset(block, 0, bytes) : wg__parser_refused(&r->parser);
}

static void *unsupported(reading *r, const wg_token *at, const char *what) {
    return wg__parser_fail_as(&r->parser, WG_UNSUPPORTED, at->line, at->column, "%s", what);
}

static bool failed(const reading *r) { return r->parser.status != WG_OK; }

static bool accept_word(reading *r, const char *word) {
    if (!wg__parser_is(&r->parser, word))
        return false;
    wg__parser_next(&r->parser);
    return true;
}

static bool is_words(const wg_token *token, const char *const *list) {
    for (; *list; list++)
        if (token->kind == WG_TOKEN_NAME && token->size == strlen(*list) && memcmp(token->start, *list, token->size) == 0)
            return true;
    return false;
}

/* ---- types ---- */

static const struct {
    const char *name;
    wg_ctype_kind kind;
    size_t size;
    bool is_signed;
} names[] = {
    {"bool", WG_CTYPE_INTEGER, 1, false},     {"_Bool", WG_CTYPE_INTEGER, 1, false},    {"int8_t", WG_CTYPE_INTEGER, 1, true},
    {"int16_t", WG_CTYPE_INTEGER, 2, true},   {"int32_t", WG_CTYPE_INTEGER, 4, true},   {"int64_t", WG_CTYPE_INTEGER, 8, true},
    {"uint8_t", WG_CTYPE_INTEGER, 1, false},  {"uint16_t", WG_CTYPE_INTEGER, 2, false}, {"uint32_t", WG_CTYPE_INTEGER, 4, false},
    {"uint64_t", WG_CTYPE_INTEGER, 8, false}, {"size_t", WG_CTYPE_INTEGER, sizeof(size_t), false},
    {"ssize_t", WG_CTYPE_INTEGER, sizeof(size_t), true}, {"ptrdiff_t", WG_CTYPE_INTEGER, sizeof(ptrdiff_t), true},
    {"intptr_t", WG_CTYPE_INTEGER, sizeof(void *), true}, {"uintptr_t", WG_CTYPE_INTEGER, sizeof(void *), false},
    {"float", WG_CTYPE_FLOAT, sizeof(float), true},       {"double", WG_CTYPE_DOUBLE, sizeof(double), true},
    {"void", WG_CTYPE_VOID, 0, false},
};

static const char *const arithmetic[] = {"char", "short", "int", "long", "signed", "unsigned", NULL};
static const char *const truths[] = {"bool", "_Bool", NULL};
static const char *const qualifiers[] = {"const", "restrict", "__restrict", "struct", NULL};
static const char *const refused[] = {"union", "enum", "_Complex", "complex", "_Imaginary", "volatile", "_Atomic", NULL};
static const char long_double[] = "long double is not supported: ops are f32 and f64";
static const char no_type[] = "these words together are no type of C";

/* Whether it is a word of types, which names nothing else. */
static bool is_type_word(const wg_token *token) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_words(token, (const char *const[]){names[i].name, NULL}))
            return true;
    return is_words(token, arithmetic) || is_words(token, qualifiers) || is_words(token, refused);
}

static void *refuse_word(reading *r, const wg_token *at) {
    return wg__parser_fail_as(&r->parser, WG_UNSUPPORTED, at->line, at->column, "'%.*s' is not supported", (int)at->size, at->start);
}

static ffi_type *ffi_of(wg_ctype_kind kind, size_t size, bool is_signed) {
    switch (kind) {
    case WG_CTYPE_VOID: return &ffi_type_void;
    case WG_CTYPE_FLOAT: return &ffi_type_float;
    case WG_CTYPE_DOUBLE: return &ffi_type_double;
    case WG_CTYPE_INTEGER:
        return size == 1   ? is_signed ? &ffi_type_sint8 : &ffi_type_uint8
               : size == 2 ? is_signed ? &ffi_type_sint16 : &ffi_type_uint16
               : size == 4 ? is_signed ? &ffi_type_sint32 : &ffi_type_uint32
               : is_signed ? &ffi_type_sint64
                           : &ffi_type_uint64;
    default: return &ffi_type_pointer;
    }
}

static wg_ctype *new_type(reading *r, wg_ctype_kind kind, size_t size, bool is_signed) {
    wg_ctype *type = take(r, sizeof *type);
    if (type)
        *type = (wg_ctype){.kind = kind, .size = size, .is_signed = is_signed, .count = 1, .ffi = ffi_of(kind, size, is_signed)};
    return type;
}

/* char, short, int, long, long long with signed and unsigned, in any order. */
static wg_ctype *read_arithmetic(reading *r) {
    wg_parser *p = &r->parser;
    const wg_token first = p->now;
    int seen[6] = {0}; /* of `arithmetic` */
    while (is_words(&p->now, arithmetic)) {
        for (int i = 0; arithmetic[i]; i++)
            seen[i] += wg__parser_is(p, arithmetic[i]);
        wg__parser_next(p);
    }
    if (wg__parser_is(p, "double") && seen[3])
        return unsupported(r, &first, long_double);
    const int chars = seen[0], shorts = seen[1], ints = seen[2], longs = seen[3], sign = seen[4] + seen[5];
    bool good = sign <= 1 && chars <= 1 && shorts <= 1 && ints <= 1 && longs <= 2 && chars + shorts + (longs > 0) <= 1 && !(chars && ints);
    if (!good)
        return wg__parser_fail(p, first.line, first.column, no_type);
    const size_t sizes[] = {sizeof(int), sizeof(long), sizeof(long long)};
    return new_type(r, WG_CTYPE_INTEGER, chars ? 1 : shorts ? sizeof(short) : sizes[longs], seen[5] == 0);
}

static wg_ctype *read_struct(reading *r, const wg_token *at);

static wg_ctype *read_base(reading *r) {
    wg_parser *p = &r->parser;
    const wg_token at = p->now;
    if (at.kind == WG_TOKEN_RANGE)
        return unsupported(r, &at, "functions of a varying number of arguments ('...') are not supported");
    if (at.kind != WG_TOKEN_NAME)
        return wg__parser_unexpected(p, "a type");
    if (accept_word(r, "struct"))
        return read_struct(r, &at);
    if (is_words(&at, refused))
        return refuse_word(r, &at);
    if (is_words(&at, arithmetic))
        return read_arithmetic(r);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (accept_word(r, names[i].name)) {
            wg_ctype *type = new_type(r, names[i].kind, names[i].size, names[i].is_signed);
            if (type)
                type->is_bool = is_words(&at, truths);
            return type;
        }
    return wg__parser_fail(p, at.line, at.column,
                           "there is no type '%.*s': known are C's own numbers, size_t and the like, int32_t and the like, and structs "
                           "whose fields are written out",
                           (int)at.size, at.start);
}

static bool read_qualifiers(reading *r) {
    bool is_const = false;
    for (;;) {
        if (accept_word(r, "const"))
            is_const = true;
        else if (!accept_word(r, "restrict") && !accept_word(r, "__restrict"))
            return is_const;
    }
}

static wg_ctype *pointer_to(reading *r, const wg_ctype *to, bool is_const) {
    wg_ctype *type = new_type(r, WG_CTYPE_POINTER, sizeof(void *), false);
    if (type) {
        type->to = to;
        type->is_const = is_const;
    }
    return type;
}

/* A type without its stars. */
static const wg_ctype *read_starless(reading *r) {
    bool is_const = read_qualifiers(r);
    const wg_token first = r->parser.now;
    wg_ctype *type = read_base(r);
    if (!type)
        return NULL;
    while (accept_word(r, "const"))
        is_const = true;
    type->is_const = is_const;
    const wg_token *now = &r->parser.now; /* C's words may go on where ours do not */
    if (is_words(now, refused))
        return refuse_word(r, now);
    if (type->kind == WG_CTYPE_DOUBLE && wg__parser_is(&r->parser, "long"))
        return unsupported(r, &first, long_double);
    if (is_type_word(now))
        return wg__parser_fail(&r->parser, first.line, first.column, no_type);
    return type;
}

/* The stars behind it. What stands behind a star is said of that pointer, and kept by the pointer to it. */
static const wg_ctype *read_stars(reading *r, const wg_ctype *type) {
    wg_parser *p = &r->parser;
    bool is_const = type->is_const;
    for (int depth = 0; type && (p->now.kind == '*' || p->now.kind == WG_TOKEN_POW);) {
        const wg_token at = p->now;
        wg__parser_next(p);
        for (size_t i = 0; i < at.size && type; i++) { /* of "**" each */
            if (depth++ == WG_PROTOTYPE_DEPTH)
                return wg__parser_fail_as(p, WG_RANGE, at.line, at.column, "a type has at most %d '*'", WG_PROTOTYPE_DEPTH);
            type = pointer_to(r, type, is_const);
            is_const = false;
        }
        is_const = read_qualifiers(r);
    }
    return failed(r) ? NULL : type;
}

static const wg_ctype *read_type(reading *r) {
    const wg_ctype *type = read_starless(r);
    return type ? read_stars(r, type) : NULL;
}

/* ---- slots ---- */

static const char *read_name(reading *r) {
    const wg_token at = r->parser.now;
    if (at.kind != WG_TOKEN_NAME)
        return NULL;
    wg__parser_next(&r->parser);
    return wg__parser_string(&r->parser, &at);
}

/* The name of what has a type: no word of types. */
static const char *read_own_name(reading *r) {
    const wg_token at = r->parser.now;
    if (is_words(&at, refused))
        return refuse_word(r, &at);
    if (is_type_word(&at))
        return wg__parser_fail(&r->parser, at.line, at.column, "'%.*s' is a word of C's types and no name", (int)at.size, at.start);
    return read_name(r);
}

/* A whole number that fits in 2^53. */
static int64_t read_whole(reading *r) {
    const wg_token at = r->parser.now;
    if (!wg__parser_expect(&r->parser, WG_TOKEN_NUMBER, "a whole number"))
        return -1;
    if (at.value == floor(at.value) && at.value <= 9007199254740992.0)
        return (int64_t)at.value;
    wg__parser_fail(&r->parser, at.line, at.column, "this is no whole number, or too large");
    return -1;
}

/* ": role number", where one stands. */
static void read_role(reading *r, wg_slot *slot) {
    slot->number = -1;
    if (!wg__parser_accept(&r->parser, ':'))
        return;
    slot->role = read_name(r);
    if (!slot->role)
        wg__parser_unexpected(&r->parser, "the name of a role");
    else if (r->parser.now.kind == WG_TOKEN_NUMBER)
        slot->number = read_whole(r);
}

static bool name_taken(reading *r, const wg_slot *slots, int n, const wg_token *at, const char *name) {
    for (int i = 0; i < n && name; i++)
        if (slots[i].name && strcmp(slots[i].name, name) == 0) {
            wg__parser_fail(&r->parser, at->line, at->column, "there are two of the name %s", name);
            return true;
        }
    return false;
}

/* ---- structs ---- */

/* The numbers and pointers in one of this type. */
static int64_t scalars_of(const wg_ctype *type) {
    int64_t count = type->kind == WG_CTYPE_STRUCT ? 0 : 1;
    for (int i = 0; i < type->fields; i++)
        count += type->field[i].type->count * scalars_of(type->field[i].type);
    return count;
}

/* The lengths of a field, multiplied. */
static int64_t read_field_count(reading *r) {
    int64_t count = 1;
    while (!failed(r) && wg__parser_accept(&r->parser, '[')) {
        const wg_token at = r->parser.now;
        int64_t length = read_whole(r);
        if (!failed(r) && (length < 1 || length > WG_PROTOTYPE_SCALARS || (count *= length) > WG_PROTOTYPE_SCALARS))
            wg__parser_fail_as(&r->parser, WG_RANGE, at.line, at.column, "a struct has 1 to %d numbers", WG_PROTOTYPE_SCALARS);
        if (!failed(r))
            wg__parser_expect(&r->parser, ']', "']'");
    }
    return count;
}

/* What stands in the place of a name, or behind one, and is C but not supported. */
static bool is_plain_field(reading *r) {
    const wg_token *now = &r->parser.now;
    if (now->kind == '(')
        return unsupported(r, now, "a function in a struct is not supported");
    if (now->kind == ':' && r->parser.ahead.kind == WG_TOKEN_NUMBER)
        return unsupported(r, now, "bit fields are not supported");
    return !failed(r);
}

/* A name of this type, its lengths and its role. */
static bool read_field(reading *r, const wg_ctype *type, wg_slot *field, const wg_slot *before, int n) {
    const wg_token at = r->parser.now;
    *field = (wg_slot){.line = at.line, .column = at.column};
    if (!is_plain_field(r))
        return false;
    field->name = read_own_name(r);
    if (!field->name)
        return wg__parser_unexpected(&r->parser, "the name of a field");
    if (name_taken(r, before, n, &at, field->name))
        return false;
    wg_ctype *own = take(r, sizeof *own);
    if (!own)
        return false;
    *own = *type;
    own->count = read_field_count(r);
    field->type = own;
    if (is_plain_field(r))
        read_role(r, field);
    return !failed(r);
}

/* TYPE name, *name; Stars belong to one name, as in C. */
static bool read_line(reading *r, wg_ctype *type, wg_slot *field) {
    wg_parser *p = &r->parser;
    const wg_token at = p->now;
    const wg_ctype *base = read_starless(r), *of;
    if (!base)
        return false;
    do {
        if (type->fields == WG_PROTOTYPE_PARAMETERS)
            return wg__parser_fail_as(p, WG_RANGE, p->now.line, p->now.column, "a struct has at most %d fields", WG_PROTOTYPE_PARAMETERS);
        if (!(of = read_stars(r, base)))
            return false;
        if (of->kind == WG_CTYPE_VOID)
            return wg__parser_fail(p, at.line, at.column, "nothing is of type void");
        if (!read_field(r, of, &field[type->fields], field, type->fields))
            return false;
        type->fields++;
        if (scalars_of(type) > WG_PROTOTYPE_SCALARS)
            return wg__parser_fail_as(p, WG_RANGE, at.line, at.column, "a struct has 1 to %d numbers", WG_PROTOTYPE_SCALARS);
    } while (wg__parser_accept(p, ','));
    return wg__parser_expect(p, ';', "';'");
}

/* What libffi needs to know: every element of every field, in a row; it says where they lie. */
static bool lay_out(reading *r, wg_ctype *type, wg_slot *field) {
    size_t n = 0, at = 0, offset[WG_PROTOTYPE_SCALARS];
    for (int i = 0; i < type->fields; i++)
        n += (size_t)field[i].type->count;
    ffi_type *own = take(r, sizeof *own);
    ffi_type **element = take(r, (n + 1) * sizeof(ffi_type *));
    if (!own || !element)
        return false;
    for (int i = 0; i < type->fields; i++)
        for (int64_t k = 0; k < field[i].type->count; k++)
            element[at++] = field[i].type->ffi;
    *own = (ffi_type){.type = FFI_TYPE_STRUCT, .elements = element};
    if (ffi_get_struct_offsets(FFI_DEFAULT_ABI, own, offset) != FFI_OK)
        return unsupported(r, &r->parser.now, "libffi cannot express this struct");
    at = 0;
    for (int i = 0; i < type->fields; i++) {
        field[i].offset = offset[at];
        at += (size_t)field[i].type->count;
    }
    type->ffi = own;
    type->size = own->size;
    return true;
}

static wg_ctype *read_fields(reading *r, const wg_token *at) {
    wg_parser *p = &r->parser;
    wg_slot *field = take(r, WG_PROTOTYPE_PARAMETERS * sizeof *field);
    wg_ctype *type = new_type(r, WG_CTYPE_STRUCT, 0, false);
    if (!field || !type)
        return NULL;
    type->field = field;
    while (!failed(r) && !wg__parser_accept(p, '}'))
        if (!read_line(r, type, field))
            return NULL;
    if (type->fields == 0)
        return unsupported(r, at, "a struct without fields is not supported");
    return lay_out(r, type, field) ? type : NULL;
}

static wg_ctype *read_struct(reading *r, const wg_token *at) {
    wg_parser *p = &r->parser;
    if (p->now.kind == WG_TOKEN_NAME)
        wg__parser_next(p); /* its tag */
    if (p->now.kind != '{')
        return unsupported(r, at, "a struct is written with its fields: struct {double re, im;}");
    if (r->depth == WG_PROTOTYPE_DEPTH)
        return wg__parser_fail_as(p, WG_RANGE, at->line, at->column, "structs stand in each other deeper than %d", WG_PROTOTYPE_DEPTH);
    wg__parser_next(p);
    r->depth++;
    wg_ctype *type = read_fields(r, at);
    r->depth--;
    return type;
}

/* ---- parameters ---- */

/* Names, whole numbers, + - *. */
static bool is_length(reading *r, const wg_ast *ast) {
    bool good = ast->kind == WG_AST_NAME || ast->kind == WG_AST_ADD || ast->kind == WG_AST_SUB || ast->kind == WG_AST_MUL ||
                (ast->kind == WG_AST_NUMBER && ast->value == floor(ast->value) && ast->value <= 9007199254740992.0);
    if (!good)
        wg__parser_fail(&r->parser, ast->line, ast->column, "a length is made of names, whole numbers, + - and *");
    for (int i = 0; i < ast->n && good; i++)
        good = is_length(r, ast->arg[i]);
    return good;
}

static void read_lengths(reading *r, wg_slot *slot) {
    wg_parser *p = &r->parser;
    const wg_token at = p->now;
    while (!failed(r) && wg__parser_accept(p, '[')) {
        if (slot->lengths == WG_MAX_RANK) {
            wg__parser_fail_as(p, WG_RANGE, at.line, at.column, "an array has at most %d lengths", WG_MAX_RANK);
            return;
        }
        if (p->now.kind == ']' && slot->lengths > 0) {
            wg__parser_fail(p, p->now.line, p->now.column, "only the first length of an array may be left out");
            return;
        }
        const wg_ast *length = p->now.kind == ']' ? NULL : wg__parse_expression(p);
        if (failed(r) || (length && !is_length(r, length)))
            return;
        slot->length[slot->lengths++] = length;
        wg__parser_expect(p, ']', "']'");
    }
    if (slot->lengths == 0 || failed(r))
        return;
    if (slot->type->kind == WG_CTYPE_POINTER)
        unsupported(r, &at, "an array of pointers is not supported");
    else
        slot->type = pointer_to(r, slot->type, slot->type->is_const);
}

static void read_value(reading *r, wg_slot *slot) {
    wg_parser *p = &r->parser;
    const wg_token at = p->now;
    _Alignas(16) char room[16];
    slot->fixed = true;
    if (slot->type->kind == WG_CTYPE_POINTER) {
        if (!accept_word(r, "NULL"))
            wg__parser_unexpected(p, "NULL");
        return;
    }
    bool minus = wg__parser_accept(p, '-');
    const wg_token number = p->now;
    if (!wg__parser_expect(p, WG_TOKEN_NUMBER, "a number"))
        return;
    slot->value = minus ? -number.value : number.value;
    bool infinite = slot->type->kind == WG_CTYPE_FLOAT && isinf((float)slot->value);
    if (slot->type->kind == WG_CTYPE_STRUCT || infinite || !wg__ctype_set(slot->type, room, slot->value))
        wg__parser_fail(p, at.line, at.column, "this is no value of its type");
}

static bool read_parameter(reading *r, wg_slot *slot, const wg_slot *before, int n) {
    wg_parser *p = &r->parser;
    *slot = (wg_slot){.line = p->now.line, .column = p->now.column, .number = -1};
    slot->type = read_type(r);
    if (!slot->type)
        return false;
    const wg_token at = p->now;
    slot->name = read_own_name(r);
    if (p->now.kind == '(')
        return unsupported(r, &p->now, "a parameter that is a function is not supported");
    if (name_taken(r, before, n, &at, slot->name))
        return false;
    if (slot->type->kind == WG_CTYPE_VOID)
        return wg__parser_fail(p, slot->line, slot->column, "nothing is of type void");
    read_lengths(r, slot);
    if (!failed(r) && wg__parser_accept(p, '='))
        read_value(r, slot);
    if (!failed(r))
        read_role(r, slot);
    return !failed(r);
}

static void read_parameters(reading *r, wg_prototype *prototype) {
    wg_parser *p = &r->parser;
    wg_slot *slot = take(r, WG_PROTOTYPE_PARAMETERS * sizeof *slot);
    prototype->ffi = take(r, WG_PROTOTYPE_PARAMETERS * sizeof(ffi_type *));
    prototype->parameter = slot;
    if (failed(r) || wg__parser_accept(p, ')'))
        return;
    if (wg__parser_is(p, "void") && p->ahead.kind == ')') {
        wg__parser_next(p);
        wg__parser_next(p);
        return;
    }
    do {
        if (prototype->parameters == WG_PROTOTYPE_PARAMETERS) {
            wg__parser_fail_as(p, WG_RANGE, p->now.line, p->now.column, "a function has at most %d parameters", WG_PROTOTYPE_PARAMETERS);
            return;
        }
        if (!read_parameter(r, &slot[prototype->parameters], slot, prototype->parameters))
            return;
        prototype->ffi[prototype->parameters] = slot[prototype->parameters].type->ffi;
        prototype->parameters++;
    } while (wg__parser_accept(p, ','));
    wg__parser_expect(p, ')', "',' or ')'");
}

/* NAME, or (*NAME), or (*). */
static void read_declarator(reading *r, wg_prototype *prototype) {
    wg_parser *p = &r->parser;
    bool pointer = wg__parser_accept(p, '(');
    if (pointer)
        wg__parser_expect(p, '*', "'*' and the name of the function");
    if (failed(r))
        return;
    prototype->name = read_own_name(r);
    if (pointer && !failed(r))
        wg__parser_expect(p, ')', "')'");
    else if (!prototype->name && !failed(r))
        wg__parser_unexpected(p, "the name of the function");
}

static void no_array(reading *r) {
    if (r->parser.now.kind == '[')
        unsupported(r, &r->parser.now, "an array cannot be returned");
}

static void read_prototype(reading *r, wg_prototype *prototype) {
    wg_parser *p = &r->parser;
    prototype->result = (wg_slot){.line = p->now.line, .column = p->now.column, .number = -1};
    prototype->result.type = read_type(r);
    no_array(r);
    if (!failed(r))
        read_declarator(r, prototype);
    if (!failed(r) && wg__parser_expect(p, '(', "'(' and the parameters"))
        read_parameters(r, prototype);
    no_array(r);
    if (!failed(r))
        read_role(r, &prototype->result);
    if (!failed(r))
        wg__parser_accept(p, ';');
    if (!failed(r))
        wg__parser_expect(p, WG_TOKEN_END, "the end");
}

wg_status wg__prototype_parse(const wg_source *source, wg_arena *arena, const wg_prototype **prototype, wg_error *error) {
    reading r = {0};
    *prototype = NULL;
    if (source->size > WG_PROTOTYPE_SIZE)
        return wg_error_set(error, WG_RANGE, "%s: a prototype has at most %d bytes", source->name, WG_PROTOTYPE_SIZE);
    wg__parser_begin_lineless(&r.parser, source, arena, "{};:.", error);
    wg_prototype *own = failed(&r) ? NULL : take(&r, sizeof *own);
    if (own)
        read_prototype(&r, own);
    if (!failed(&r))
        *prototype = own;
    return r.parser.status;
}

/* ---- what a type is called ---- */

typedef struct writer {
    char *text;
    size_t size, at;
} writer;

static void put(writer *w, const char *piece) {
    for (; *piece && w->at + 1 < w->size; piece++)
        w->text[w->at++] = *piece;
    if (w->size)
        w->text[w->at] = 0;
}

static const char *name_of(const wg_ctype *type) {
    static const char *const whole[2][4] = {{"unsigned char", "unsigned short", "unsigned", "unsigned long"},
                                            {"char", "short", "int", "long"}};
    switch (type->kind) {
    case WG_CTYPE_VOID: return "void";
    case WG_CTYPE_FLOAT: return "float";
    case WG_CTYPE_DOUBLE: return "double";
    default: return type->is_bool ? "bool" : whole[type->is_signed][type->size == 1 ? 0 : type->size == 2 ? 1 : type->size == 4 ? 2 : 3];
    }
}

static void write_type(writer *w, const wg_ctype *type) {
    char count[24];
    if (type->kind == WG_CTYPE_POINTER) {
        write_type(w, type->to);
        bool twice = type->to->kind == WG_CTYPE_POINTER;
        put(w, !twice ? " *" : type->is_const ? "const *" : "*");
        return;
    }
    put(w, type->is_const ? "const " : "");
    if (type->kind != WG_CTYPE_STRUCT) {
        put(w, name_of(type));
        return;
    }
    put(w, "struct {");
    for (int i = 0; i < type->fields; i++) {
        put(w, i ? " " : "");
        write_type(w, type->field[i].type);
        snprintf(count, sizeof count, "[%lld]", (long long)type->field[i].type->count);
        put(w, type->field[i].type->count > 1 ? count : "");
        put(w, ";");
    }
    put(w, "}");
}

char *wg__ctype_text(const wg_ctype *type, char *text, size_t size) {
    writer w = {text, size, 0};
    write_type(&w, type);
    return text;
}

/* ---- numbers ---- */

double wg__ctype_get(const wg_ctype *type, const void *from) {
    union {
        double f64;
        float f32;
        int8_t s1;
        int16_t s2;
        int32_t s4;
        int64_t s8;
        uint8_t u1;
        uint16_t u2;
        uint32_t u4;
        uint64_t u8;
    } x;
    memcpy(&x, from, type->size);
    if (type->kind == WG_CTYPE_DOUBLE)
        return x.f64;
    if (type->kind == WG_CTYPE_FLOAT)
        return (double)x.f32;
    switch (type->size) {
    case 1: return type->is_signed ? (double)x.s1 : (double)x.u1;
    case 2: return type->is_signed ? (double)x.s2 : (double)x.u2;
    case 4: return type->is_signed ? (double)x.s4 : (double)x.u4;
    default: return type->is_signed ? (double)x.s8 : (double)x.u8;
    }
}

bool wg__ctype_set(const wg_ctype *type, void *to, double value) {
    if (type->kind == WG_CTYPE_DOUBLE) {
        memcpy(to, &value, sizeof value);
        return true;
    }
    if (type->kind == WG_CTYPE_FLOAT) {
        float narrow = (float)value;
        memcpy(to, &narrow, sizeof narrow);
        return true;
    }
    int bits = 8 * (int)type->size - type->is_signed;
    double limit = type->is_bool ? 2 : bits == 64 ? 0x1p64 : (double)(UINT64_C(1) << bits);
    if (type->kind != WG_CTYPE_INTEGER || !(value == floor(value) && value < limit && value >= (type->is_signed ? -limit : 0)))
        return false;
    uint64_t word = value < 0 ? (uint64_t)(int64_t)value : (uint64_t)value; /* two's complement, cut to size */
    memcpy(to, &word, type->size);
    return true;
}
