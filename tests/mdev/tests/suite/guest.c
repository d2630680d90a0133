/*
 * A guest that is nothing but a driver of the vGPU: a multiboot program of 32 bits, without a library.
 *
 * Over the first serial port it says what it finds ("found"), waits for a byte, sets a mode where the device has one to set,
 * paints in one colour ("painted"), and goes on counting ("alive").
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

/* What a multiboot loader looks for, and where it starts. */
__asm__(".section .multiboot, \"a\"\n"
        ".align 4\n"
        ".long 0x1badb002, 0, -0x1badb002\n"
        ".text\n"
        ".globl _start\n"
        "_start: mov $stack + 4096, %esp\n"
        "call guest\n"
        "1: hlt\n"
        "jmp 1b\n"
        ".comm stack, 4096, 16\n");

static void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void outl(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static u8 inb(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u32 inl(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

/* The serial port. */
enum { SERIAL = 0x3f8, DATA_READY = 1, CAN_SEND = 0x20 };

static void say(const char *text) {
    for (; *text; text++) {
        while (!(inb(SERIAL + 5) & CAN_SEND));
        outb(SERIAL, *text);
    }
}

static void say_number(u32 number) {
    char digits[9] = {0};
    for (int at = 7; at >= 0; at--, number >>= 4) digits[at] = "0123456789abcdef"[number & 15];
    say(digits);
}

static void wait_for_a_byte(void) {
    while (!(inb(SERIAL + 5) & DATA_READY));
    inb(SERIAL);
}

/* PCI, by its ports. */
static u32 pci_read(u32 device, u32 at) {
    outl(0xcf8, 0x80000000 | device << 11 | at);
    return inl(0xcfc);
}

static void pci_write(u32 device, u32 at, u32 value) {
    outl(0xcf8, 0x80000000 | device << 11 | at);
    outl(0xcfc, value);
}

/* The kernel's samples: Documentation/driver-api/vfio-mediated-device.rst. The VGA has mbochs' number too, but another class. */
enum { MBOCHS = 0x11111234, MDPY = 0x000f1b36, OTHER_DISPLAY = 0x0380, MEMORY_AND_IO = 3 };

static u32 find(void) {
    for (u32 device = 0; device < 256 * 32; device++) {
        u32 id = pci_read(device, 0);
        if ((id == MBOCHS || id == MDPY) && pci_read(device, 8) >> 16 == OTHER_DISPLAY) return device;
    }
    return ~0u;
}

/* Bochs' display interface, in the second region: its registers are of 16 bits. */
enum { REGISTERS = 0x500, X = 1, Y = 2, DEPTH = 3, ENABLE = 4, ON_AND_LINEAR = 0x41 };

static void set_mode(u32 region) {
    volatile u16 *registers = (volatile u16 *)(region + REGISTERS);
    registers[ENABLE] = 0;
    registers[X] = 640;
    registers[Y] = 480;
    registers[DEPTH] = 32;
    registers[ENABLE] = ON_AND_LINEAR;
}

void guest(void) {
    u32 device = find();
    if (device == ~0u) {
        say("nothing found\n");
        return;
    }
    u32 id = pci_read(device, 0);
    pci_write(device, 4, pci_read(device, 4) | MEMORY_AND_IO);
    say("found ");
    say_number(id);
    say("\n");
    wait_for_a_byte();
    if (id == MBOCHS) set_mode(pci_read(device, 0x18) & ~15u);
    volatile u32 *pixels = (volatile u32 *)(pci_read(device, 0x10) & ~15u);
    /* mbochs has each write go through the hypervisor: some lines will do, for nobody sees them. */
    u32 lines = id == MBOCHS ? 16 : 480;
    for (u32 at = 0; at < 640 * lines; at++) pixels[at] = 0xff8040;
    say("painted\n");
    for (;;) {
        for (volatile u32 wait = 0; wait < 200000; wait++);
        say("alive\n");
    }
}
