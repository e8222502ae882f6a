/* planted_race.c: OpenMP threads add to one variable without order; ThreadSanitizer must say so. The second loop is
 * ordered by its barriers and must not be reported. */
#include <omp.h>

static int shared, part[4];

int main(void) {
#pragma omp parallel num_threads(4)
    for (int i = 0; i < 1000; i++)
        shared++;
    int sum = 0;
#pragma omp parallel num_threads(4)
    {
        int me = omp_get_thread_num();
        part[me] = me;
#pragma omp barrier
#pragma omp single
        sum = part[0] + part[1] + part[2] + part[3];
    }
    return sum > 6; /* 0 unless caught */
}
