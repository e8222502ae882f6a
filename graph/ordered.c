/* ordered.c: an ordered set as a treap in one array: search, insert and remove in O(log n) expected. */
#include "program.h"

static int compare(const wg_ordered_node *node, uint64_t high, uint64_t low) {
    if (node->high != high)
        return node->high < high ? -1 : 1;
    return node->low < low ? -1 : node->low > low;
}

/* Splits a tree into the keys before (high, low) and the rest. */
static void split(wg_ordered *set, uint32_t tree, uint64_t high, uint64_t low, uint32_t *before, uint32_t *rest) {
    while (tree) {
        wg_ordered_node *node = &set->node[tree];
        if (compare(node, high, low) < 0) {
            *before = tree;
            before = &node->child[1];
            tree = node->child[1];
        } else {
            *rest = tree;
            rest = &node->child[0];
            tree = node->child[0];
        }
    }
    *before = *rest = 0;
}

/* Two trees, every key of a before every key of b. */
static uint32_t merge(wg_ordered *set, uint32_t a, uint32_t b) {
    uint32_t root, *at = &root;
    while (a && b) {
        if (set->node[a].priority > set->node[b].priority) {
            *at = a;
            at = &set->node[a].child[1];
            a = *at;
        } else {
            *at = b;
            at = &set->node[b].child[0];
            b = *at;
        }
    }
    *at = a ? a : b;
    return root;
}

static uint32_t new_node(wg_ordered *set) {
    uint32_t id = set->spare;
    if (id) {
        set->spare = set->node[id].child[0];
        return id;
    }
    if (set->count == 0)
        set->count = 1;
    if (!set->node || set->count >= set->room)
        if (!wg__room(set->memory, (void **)&set->node, set->node ? set->count : 0, &set->room, sizeof *set->node))
            return 0;
    return (uint32_t)set->count++;
}

bool wg__ordered_insert(wg_ordered *set, uint64_t high, uint64_t low, uint64_t length, uint32_t owner) {
    uint32_t id = new_node(set), before = 0, rest = 0;
    if (!id)
        return false;
    set->seed = set->seed * 1664525u + 1013904223u;
    set->node[id] = (wg_ordered_node){high, low, length, {0, 0}, set->seed ^ set->seed >> 15, owner};
    split(set, set->root, high, low, &before, &rest);
    set->root = merge(set, merge(set, before, id), rest);
    return true;
}

void wg__ordered_remove(wg_ordered *set, uint64_t high, uint64_t low) {
    uint32_t *at = &set->root;
    while (*at) {
        wg_ordered_node *node = &set->node[*at];
        int order = compare(node, high, low);
        if (order == 0) {
            uint32_t gone = *at;
            *at = merge(set, node->child[0], node->child[1]);
            node->child[0] = set->spare;
            set->spare = gone;
            return;
        }
        at = &node->child[order < 0];
    }
}

const wg_ordered_node *wg__ordered_at_or_after(const wg_ordered *set, uint64_t high, uint64_t low) {
    const wg_ordered_node *best = NULL;
    for (uint32_t id = set->root; id;) {
        const wg_ordered_node *node = &set->node[id];
        bool before = compare(node, high, low) < 0;
        if (!before)
            best = node;
        id = node->child[before];
    }
    return best;
}

const wg_ordered_node *wg__ordered_before(const wg_ordered *set, uint64_t high, uint64_t low) {
    const wg_ordered_node *best = NULL;
    for (uint32_t id = set->root; id;) {
        const wg_ordered_node *node = &set->node[id];
        bool before = compare(node, high, low) < 0;
        if (before)
            best = node;
        id = node->child[before];
    }
    return best;
}

void wg__ordered_free(wg_ordered *set) {
    wg__give(set->memory, set->node);
    *set = (wg_ordered){.memory = set->memory};
}
