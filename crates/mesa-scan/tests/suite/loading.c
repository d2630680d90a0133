/* Opens each library that is named, as the programs that use GL do, and says what the loader says. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (dlopen(argv[i], RTLD_NOW | RTLD_LOCAL)) {
            printf("ok %s\n", argv[i]);
        } else {
            printf("no %s: %s\n", argv[i], dlerror());
            failed = 1;
        }
    }
    return failed;
}
