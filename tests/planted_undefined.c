/* planted_undefined.c: a signed sum overflows; UndefinedBehaviorSanitizer must say so. */
#include <limits.h>

int main(int argc, char **argv) {
    (void)argv;
    volatile int big = INT_MAX;
    return (big + argc) & 0; /* 0 unless caught */
}
