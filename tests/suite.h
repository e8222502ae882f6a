/* suite.h: what every test includes: Criterion, or the plain harness for builds that Criterion cannot run. */
#ifndef WG_SUITE_H
#define WG_SUITE_H
#ifdef WG_PLAIN
#include "plain.h"
#else
#include <criterion/criterion.h>
#endif
#endif
