/* uses.c: how a cell's equations use each parameter, for the default initialisers. Touches only the
 * checked tree. */
#include "initialisers.h"

#include <string.h>

typedef struct walk {
    const wg_lang *lang;
    wg_use *use;    /* by symbol */
    bool *on_state; /* by equation: its value depends on a state */
} walk;

static bool depends_on_state(const walk *w, const wg_ast *ast) {
    if (ast->kind == WG_AST_NEXT)
        return w->on_state[w->lang->symbol[ast->symbol].equation];
    if (ast->kind == WG_AST_NAME && ast->symbol >= 0) {
        const wg_symbol *symbol = &w->lang->symbol[ast->symbol];
        return symbol->kind == WG_SYMBOL_STATE ||
               (symbol->kind == WG_SYMBOL_VALUE && w->on_state[symbol->equation]);
    }
    for (int i = 0; i < ast->n; i++)
        if (depends_on_state(w, ast->arg[i]))
            return true;
    return false;
}

static bool is_sum(const wg_ast *ast) {
    return ast->kind == WG_AST_ADD || ast->kind == WG_AST_SUB || ast->kind == WG_AST_NEGATE;
}

/* The products with a matrix among the terms of a sum. */
static int count_products(const wg_ast *ast) {
    int n = ast->kind == WG_AST_MATMUL;
    for (int i = 0; i < ast->n && is_sum(ast); i++)
        n += count_products(ast->arg[i]);
    return n;
}

/* added: this node is a term of a sum with so many products; -1 if it is none. */
static void visit(walk *w, const wg_ast *ast, int added) {
    if (ast->kind == WG_AST_NAME) {
        if (ast->symbol < 0) /* a size or const where only those can stand */
            return;
        wg_use *use = &w->use[ast->symbol];
        use->added |= added >= 0;
        use->factor |= added < 0;
        use->products = added > use->products ? added : use->products;
        return;
    }
    if (ast->kind == WG_AST_NEXT)
        return;
    int inside = ast->kind == WG_AST_NEGATE || (is_sum(ast) && added >= 0) ? added
                 : is_sum(ast)                                             ? count_products(ast)
                                                                           : -1;
    bool product = ast->kind == WG_AST_MATMUL;
    if (product && ast->arg[0]->kind == WG_AST_NAME)
        w->use[ast->arg[0]->symbol].on_state |= depends_on_state(w, ast->arg[1]);
    for (int i = product ? 1 : 0; i < ast->n; i++)
        visit(w, ast->arg[i], inside);
}

const wg_use *wg__param_uses(const wg_lang *lang, wg_arena *arena) {
    walk w = {.lang = lang};
    size_t symbols = (size_t)lang->symbols, equations = (size_t)lang->equations + 1;
    w.use = wg__arena_take(arena, symbols * sizeof *w.use);
    w.on_state = wg__arena_take(arena, equations * sizeof *w.on_state);
    if (!w.use || !w.on_state)
        return NULL;
    memset(w.use, 0, symbols * sizeof *w.use);
    for (int i = 0; i < lang->equations; i++) {
        w.on_state[i] = depends_on_state(&w, lang->equation[i].value);
        visit(&w, lang->equation[i].value, -1);
    }
    for (int i = 0; i < lang->symbols; i++)
        if (lang->symbol[i].kind == WG_SYMBOL_STATE && lang->symbol[i].start >= 0)
            w.use[lang->symbol[i].start].start = true;
    return w.use;
}
