/* Brings GL up as QEMU's egl-headless display does, through GBM on a render node, and says what it is.
 *
 *     gl-probe RENDER-NODE [LIBRARY...]
 *
 * Each library is opened by its path first: where Mesa's own message misleads, the loader's does not. Everything is opened at
 * run time, so that the program itself needs nothing but libc. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define EGL_PLATFORM_GBM 0x31D7
#define EGL_SURFACE_TYPE 0x3033
#define EGL_RENDERABLE_TYPE 0x3040
#define EGL_OPENGL_BIT 0x0008
#define EGL_OPENGL_API 0x30A2
#define EGL_NONE 0x3038
#define GL_VENDOR 0x1F00
#define GL_RENDERER 0x1F01
#define GL_VERSION 0x1F02

static void require(int holds, const char *what)
{
    if (!holds) {
        printf("failed: %s\n", what);
        exit(1);
    }
}

static void *library(const char *name)
{
    void *handle = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    require(handle != NULL, handle ? "" : dlerror());
    return handle;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 2; i < argc; i++) {
        if (dlopen(argv[i], RTLD_NOW | RTLD_LOCAL))
            printf("opens: %s\n", argv[i]);
        else
            printf("does not open: %s: %s\n", argv[i], dlerror());
    }

    void *gbm = library("libgbm.so.1");
    void *egl = library("libEGL.so.1");
    void *gl = library("libOpenGL.so.0");
    void *(*gbm_create_device)(int) = dlsym(gbm, "gbm_create_device");
    void *(*get_platform_display)(unsigned, void *, const intptr_t *) = dlsym(egl, "eglGetPlatformDisplay");
    unsigned (*initialize)(void *, int32_t *, int32_t *) = dlsym(egl, "eglInitialize");
    unsigned (*choose_config)(void *, const int32_t *, void **, int32_t, int32_t *) = dlsym(egl, "eglChooseConfig");
    unsigned (*bind_api)(unsigned) = dlsym(egl, "eglBindAPI");
    void *(*create_context)(void *, void *, void *, const int32_t *) = dlsym(egl, "eglCreateContext");
    unsigned (*make_current)(void *, void *, void *, void *) = dlsym(egl, "eglMakeCurrent");
    const char *(*get_string)(unsigned) = dlsym(gl, "glGetString");

    require(argc > 1, "usage: gl-probe RENDER-NODE [LIBRARY...]");
    int node = open(argv[1], O_RDWR);
    require(node >= 0, "the render node opens");
    void *device = gbm_create_device(node);
    require(device != NULL, "gbm_create_device");
    void *display = get_platform_display(EGL_PLATFORM_GBM, device, NULL);
    require(display != NULL, "eglGetPlatformDisplay");
    int32_t major, minor;
    require(initialize(display, &major, &minor), "eglInitialize");
    printf("EGL: %d.%d\n", (int)major, (int)minor);

    const int32_t wanted[] = {EGL_SURFACE_TYPE, 0, EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT, EGL_NONE};
    void *config;
    int32_t count;
    require(choose_config(display, wanted, &config, 1, &count) && count == 1, "eglChooseConfig");
    require(bind_api(EGL_OPENGL_API), "eglBindAPI");
    void *context = create_context(display, config, NULL, NULL);
    require(context != NULL, "eglCreateContext");
    require(make_current(display, NULL, NULL, context), "eglMakeCurrent");
    printf("vendor: %s\n", get_string(GL_VENDOR));
    printf("renderer: %s\n", get_string(GL_RENDERER));
    printf("version: %s\n", get_string(GL_VERSION));
    return 0;
}
