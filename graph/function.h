/* function.h: plans as C functions, as tests see them. Includes nothing. */
#ifndef WG_FUNCTION_H
#define WG_FUNCTION_H

#include <stddef.h>

/* Where closures come from: libffi; in tests, a system that forbids them. */
extern void *(*wg__closure_alloc)(size_t size, void **code);

#endif
