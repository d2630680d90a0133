//! A guest's driver of QEMU's `virtio-vga-gl`, from outside: it asks for the renderer's name and has it paint.
//!
//! The device hands a guest's commands to virglrenderer, which runs them on the GL that QEMU's display brought up. So what it
//! says and paints is what QEMU itself has, without a guest and with processors that stand still. Registers, structures and
//! numbers are those of the virtio specification 1.3 (sections 2.7, 4.1 and 5.7) and of virglrenderer's `virgl_hw.h` and
//! `virgl_protocol.h`.

use std::thread;
use std::time::{Duration, Instant};

use crate::qtest::{Qtest, QtestError};

/// How long a command may take: the first one starts the renderer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the device did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// The machine.
    #[error(transparent)]
    Machine(#[from] QtestError),
    /// Not the device that this drives.
    #[error("the device in the PCI slot has no {0}")]
    Lacks(&'static str),
    /// The device refused.
    #[error("command {command:#x} was answered {answer:#x}")]
    Refused {
        /// Its number.
        command: u32,
        /// That of the answer.
        answer: u32,
    },
    /// The device says nothing.
    #[error("command {0:#x} was not answered")]
    Silent(u32),
}

/// A device that takes commands.
#[derive(Debug)]
pub struct VirtioGpu {
    machine: Qtest,
    queue: Queue,
}

/// The device's control queue.
#[derive(Debug)]
struct Queue {
    /// How many commands it has room for.
    size: u32,
    /// Where the device is told of a command.
    doorbell: u64,
    /// How many there were.
    commands: u32,
}

impl Queue {
    /// The number of commands as both sides count them, in two bytes.
    fn index(&self) -> [u8; 2] {
        let [low, high, ..] = self.commands.to_le_bytes();
        [low, high]
    }
}

// What the driver keeps in the machine's memory, of which nobody else uses any.
const DESCRIPTORS: u32 = 0x10_0000;
const AVAILABLE: u32 = 0x11_0000;
const USED: u32 = 0x12_0000;
const COMMAND: u32 = 0x20_0000;
const ANSWER: u32 = 0x21_0000;

// virtio_gpu_ctrl_type.
const SET_SCANOUT: u32 = 0x0103;
const RESOURCE_FLUSH: u32 = 0x0104;
const GET_CAPSET_INFO: u32 = 0x0108;
const GET_CAPSET: u32 = 0x0109;
const CTX_CREATE: u32 = 0x0200;
const CTX_ATTACH_RESOURCE: u32 = 0x0202;
const RESOURCE_CREATE_3D: u32 = 0x0204;
const SUBMIT_3D: u32 = 0x0207;
const FIRST_ERROR: u32 = 0x1200;

/// Words of virtio_gpu_ctrl_hdr: type, flags, fence (two), context, ring.
const HEADER: u32 = 6;

impl VirtioGpu {
    /// The device in a slot of the first PCI bus, set up as firmware and a driver would.
    ///
    /// # Errors
    /// Where it is no virtio GPU that renders.
    pub fn start(mut machine: Qtest, slot: u8) -> Result<Self, GpuError> {
        let mut pci = Pci {
            machine: &mut machine,
            slot,
        };
        let common = pci.structure(COMMON_CFG)?;
        let notify = pci.structure(NOTIFY_CFG)?;
        let multiplier = pci.read(notify.capability + 16)?;
        pci.map(common.bar)?;
        let mut registers = Registers {
            machine: &mut machine,
            start: WINDOW + common.offset,
        };
        registers.take_features()?;
        let (size, notification) = registers.enable_queue()?;
        let doorbell = u64::from(WINDOW + notify.offset);
        Ok(VirtioGpu {
            machine,
            queue: Queue {
                size,
                doorbell: doorbell + u64::from(notification) * u64::from(multiplier),
                commands: 0,
            },
        })
    }

    /// The name of the renderer, GL's `GL_RENDERER`, as the device tells its guest.
    ///
    /// # Errors
    /// Where it does not.
    pub fn renderer(&mut self) -> Result<String, GpuError> {
        const VIRGL2: u32 = 2;
        let mut index = 0;
        let (version, bytes) = loop {
            let info = self.execute(0, GET_CAPSET_INFO, &[index, 0], 4)?;
            match info[..] {
                [VIRGL2, version, bytes, _] => break (version, bytes),
                [0, ..] | [] => return Err(GpuError::Lacks("second capability set of virgl")),
                _ => index += 1,
            }
        };
        let set = self.execute(0, GET_CAPSET, &[VIRGL2, version], bytes.div_ceil(4))?;
        // virgl_caps_v2.renderer: 64 bytes, 696 behind the beginning.
        let renderer = to_bytes(&set).into_iter().skip(696).take(64);
        let renderer: Vec<u8> = renderer.take_while(|byte| *byte != 0).collect();
        Ok(String::from_utf8_lossy(&renderer).into_owned())
    }

    /// Has the renderer fill a square with a colour (red, green and blue between 0 and 1), and shows it on the screen.
    ///
    /// # Errors
    /// Where the device refuses any of it.
    pub fn paint(&mut self, colour: [f32; 3], side: u32) -> Result<(), GpuError> {
        const CONTEXT: u32 = 1;
        const PICTURE: u32 = 1;
        const SCREEN: u32 = 0;
        let stream = painting(PICTURE, colour);
        let submission = [&[size_of_words(&stream), 0], &stream[..]].concat();
        self.order(CONTEXT, CTX_CREATE, &[0; 18])?;
        self.order(0, RESOURCE_CREATE_3D, &texture(PICTURE, side))?;
        self.order(CONTEXT, CTX_ATTACH_RESOURCE, &[PICTURE, 0])?;
        self.order(CONTEXT, SUBMIT_3D, &submission)?;
        self.order(0, SET_SCANOUT, &[0, 0, side, side, SCREEN, PICTURE])?;
        self.order(0, RESOURCE_FLUSH, &[0, 0, side, side, PICTURE, 0])
    }

    /// A command that is only done.
    fn order(&mut self, context: u32, command: u32, body: &[u32]) -> Result<(), GpuError> {
        self.execute(context, command, body, 0).map(drop)
    }

    /// A command whose answer has so many words behind its header.
    fn execute(
        &mut self,
        context: u32,
        command: u32,
        body: &[u32],
        words: u32,
    ) -> Result<Vec<u32>, GpuError> {
        let request = [&[command, 0, 0, 0, context, 0], body].concat();
        let bytes = (HEADER + words) * 4;
        self.machine.write(COMMAND.into(), &to_bytes(&request))?;
        self.submit(size_of_words(&request), bytes)?;
        self.wait(command)?;
        let answer = to_words(&self.machine.read(ANSWER.into(), bytes)?);
        match answer.split_at_checked(HEADER as usize) {
            Some(([kind, ..], body)) if *kind < FIRST_ERROR => Ok(body.to_vec()),
            _ => Err(GpuError::Refused {
                command,
                answer: answer.first().copied().unwrap_or_default(),
            }),
        }
    }

    /// Puts a command into the queue: two descriptors, of what the device reads and of what it writes.
    fn submit(&mut self, read: u32, written: u32) -> Result<(), QtestError> {
        const NEXT: u32 = 1;
        const WRITE: u32 = 2;
        const SECOND: u32 = 1 << 16;
        let descriptors = [
            [COMMAND, 0, read, NEXT | SECOND],
            [ANSWER, 0, written, WRITE],
        ];
        let descriptors = to_bytes(descriptors.as_flattened());
        self.machine.write(DESCRIPTORS.into(), &descriptors)?;
        let entry = self.queue.commands % self.queue.size;
        let entry = u64::from(AVAILABLE) + 4 + 2 * u64::from(entry);
        self.machine.write(entry, &[0, 0])?;
        self.queue.commands += 1;
        self.machine
            .write(u64::from(AVAILABLE) + 2, &self.queue.index())?;
        self.machine.write(self.queue.doorbell, &[0, 0])
    }

    fn wait(&mut self, command: u32) -> Result<(), GpuError> {
        let until = Instant::now() + PATIENCE;
        while self.machine.read(u64::from(USED) + 2, 2)? != self.queue.index() {
            if Instant::now() > until {
                return Err(GpuError::Silent(command));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// A virgl_format: what VNC has, too.
const B8G8R8X8: u32 = 2;

/// A texture that can be painted on, as RESOURCE_CREATE_3D takes it.
fn texture(resource: u32, side: u32) -> [u32; 12] {
    const TEXTURE_2D: u32 = 2;
    const RENDER_TARGET: u32 = 2;
    const Y_0_TOP: u32 = 1;
    let [depth, layers, last_level, samples] = [1, 1, 0, 0];
    [
        resource,
        TEXTURE_2D,
        B8G8R8X8,
        RENDER_TARGET,
        side,
        side,
        depth,
        layers,
        last_level,
        samples,
        Y_0_TOP,
        0,
    ]
}

/// The renderer's commands that fill a texture: a surface of it is made, drawn to, and cleared.
fn painting(texture: u32, [red, green, blue]: [f32; 3]) -> Vec<u32> {
    const CREATE_OBJECT: u32 = 1;
    const SET_FRAMEBUFFER_STATE: u32 = 5;
    const CLEAR: u32 = 7;
    const SURFACE: u32 = 8;
    const COLOUR: u32 = 4;
    const HANDLE: u32 = 1;
    let header = |command: u32, object: u32, words: u32| command | object << 8 | words << 16;
    let [level, layers, colour_surfaces, depth_surface] = [0, 0, 1, 0];
    [
        header(CREATE_OBJECT, SURFACE, 5),
        HANDLE,
        texture,
        B8G8R8X8,
        level,
        layers,
        header(SET_FRAMEBUFFER_STATE, 0, 3),
        colour_surfaces,
        depth_surface,
        HANDLE,
        header(CLEAR, 0, 8),
        COLOUR,
        red.to_bits(),
        green.to_bits(),
        blue.to_bits(),
        1f32.to_bits(),
        // Depth, as a double, and stencil.
        0,
        0,
        0,
    ]
    .to_vec()
}

/// The device's registers, virtio_pci_common_cfg.
struct Registers<'m> {
    machine: &'m mut Qtest,
    start: u32,
}

impl Registers<'_> {
    /// The device is reset, and what this driver needs of what it offers is taken.
    fn take_features(&mut self) -> Result<(), GpuError> {
        // Each the lowest bit of its word: VIRTIO_GPU_F_VIRGL is feature 0, VIRTIO_F_VERSION_1 is feature 32.
        const NEEDED: [(u8, &str); 2] = [(0, "virgl"), (1, "virtio 1")];
        self.set(STATUS, &[0])?;
        self.set(STATUS, &[ACKNOWLEDGE | DRIVER])?;
        for (word, name) in NEEDED {
            self.set(DEVICE_FEATURE_SELECT, &[word, 0, 0, 0])?;
            if self.get(DEVICE_FEATURE, 4)? & 1 == 0 {
                return Err(GpuError::Lacks(name));
            }
            self.set(DRIVER_FEATURE_SELECT, &[word, 0, 0, 0])?;
            self.set(DRIVER_FEATURE, &[1, 0, 0, 0])?;
        }
        Ok(self.set(STATUS, &[ACKNOWLEDGE | DRIVER | FEATURES_OK])?)
    }

    /// The control queue is there: its size, and the number that it is notified by.
    fn enable_queue(&mut self) -> Result<(u32, u32), QtestError> {
        self.set(QUEUE_SELECT, &[0, 0])?;
        let size = self.get(QUEUE_SIZE, 2)?;
        let notification = self.get(QUEUE_NOTIFY_OFF, 2)?;
        for (register, address) in [
            (QUEUE_DESC, DESCRIPTORS),
            (QUEUE_DRIVER, AVAILABLE),
            (QUEUE_DEVICE, USED),
        ] {
            self.set(register, &address.to_le_bytes())?;
            self.set(register + 4, &[0; 4])?;
        }
        self.set(QUEUE_ENABLE, &[1, 0])?;
        self.set(STATUS, &[ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK])?;
        Ok((size, notification))
    }

    fn get(&mut self, register: u32, size: u32) -> Result<u32, QtestError> {
        let bytes = self.machine.read(u64::from(self.start + register), size)?;
        let value = |rest, byte| rest << 8 | u32::from(byte);
        Ok(bytes.into_iter().rev().fold(0, value))
    }

    fn set(&mut self, register: u32, value: &[u8]) -> Result<(), QtestError> {
        self.machine.write(u64::from(self.start + register), value)
    }
}

// The bits of its status.
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;

// Its registers.
const DEVICE_FEATURE_SELECT: u32 = 0x00;
const DEVICE_FEATURE: u32 = 0x04;
const DRIVER_FEATURE_SELECT: u32 = 0x08;
const DRIVER_FEATURE: u32 = 0x0c;
const STATUS: u32 = 0x14;
const QUEUE_SELECT: u32 = 0x16;
const QUEUE_SIZE: u32 = 0x18;
const QUEUE_ENABLE: u32 = 0x1c;
const QUEUE_NOTIFY_OFF: u32 = 0x1e;
const QUEUE_DESC: u32 = 0x20;
const QUEUE_DRIVER: u32 = 0x28;
const QUEUE_DEVICE: u32 = 0x30;

// virtio_pci_cap.cfg_type.
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;

/// Where the device's registers are put, above the memory.
const WINDOW: u32 = 0xe000_0000;

/// The device's configuration space, by the I/O ports of a PC.
struct Pci<'m> {
    machine: &'m mut Qtest,
    slot: u8,
}

/// Where a structure of virtio is.
struct Structure {
    /// virtio_pci_cap in the configuration space.
    capability: u8,
    bar: u8,
    offset: u32,
}

impl Pci<'_> {
    fn address(&mut self, register: u8) -> Result<(), QtestError> {
        let address = 1 << 31 | u32::from(self.slot) << 11 | u32::from(register);
        self.machine.port_out(0xcf8, address)
    }

    fn read(&mut self, register: u8) -> Result<u32, QtestError> {
        self.address(register)?;
        self.machine.port_in(0xcfc)
    }

    fn write(&mut self, register: u8, value: u32) -> Result<(), QtestError> {
        self.address(register)?;
        self.machine.port_out(0xcfc, value)
    }

    /// Where a structure is, by the list of the device's capabilities.
    fn structure(&mut self, wanted: u8) -> Result<Structure, GpuError> {
        const VENDOR_SPECIFIC: u8 = 9;
        let [mut capability, ..] = self.read(0x34)?.to_le_bytes();
        while capability != 0 {
            let [id, next, _, kind] = self.read(capability)?.to_le_bytes();
            if (id, kind) == (VENDOR_SPECIFIC, wanted) {
                let [bar, ..] = self.read(capability + 4)?.to_le_bytes();
                let offset = self.read(capability + 8)?;
                return Ok(Structure {
                    capability,
                    bar,
                    offset,
                });
            }
            capability = next;
        }
        Err(GpuError::Lacks("registers of virtio 1"))
    }

    /// Puts the registers into the window, and lets the device answer there and use the memory.
    fn map(&mut self, bar: u8) -> Result<(), QtestError> {
        const COMMAND: u8 = 0x04;
        const MEMORY_AND_BUS_MASTER: u32 = 0b110;
        let register = 0x10 + 4 * bar;
        self.write(register, WINDOW)?;
        self.write(register + 4, 0)?;
        self.write(COMMAND, MEMORY_AND_BUS_MASTER)
    }
}

fn to_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn to_words(bytes: &[u8]) -> Vec<u32> {
    let words = bytes.chunks_exact(4).filter_map(|word| word.first_chunk());
    words.map(|word| u32::from_le_bytes(*word)).collect()
}

fn size_of_words(words: &[u32]) -> u32 {
    u32::try_from(words.len() * 4).unwrap_or(u32::MAX)
}
