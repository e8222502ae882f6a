/* planted_undefined.c: a signed sum overflows; UndefinedBehaviorSanitizer must say so. */
#include <limits.h>

int main(int argc, char **argv) {
    (void)argv;
    volatile int big = INT_MAX;
    volatile int sum = big + argc;
    return sum == 0; /* 0 unless caught */
}
