//! What a VNC client sees of QEMU's screen, by the protocol of RFC 6143.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// A picture of the whole screen.
#[derive(Debug)]
pub struct Picture {
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// Red, green and blue, line by line.
    pub pixels: Vec<[u8; 3]>,
}

/// Takes a picture from a server that asks for no password.
///
/// # Errors
/// Where the server does not give one.
pub fn look(server: UnixStream) -> io::Result<Picture> {
    let mut server = Server(server);
    server.shake_hands()?;
    let (width, height) = server.initialise()?;
    let mut picture = Picture {
        width,
        height,
        pixels: vec![[0; 3]; usize::from(width) * usize::from(height)],
    };
    server.update(&mut picture)?;
    Ok(picture)
}

/// Presses keys at once, by their X keysyms, and releases them. Returns when the server has seen that, or is gone.
///
/// # Errors
/// Where the server does not take them.
pub fn press(server: UnixStream, keys: &[u32]) -> io::Result<()> {
    const KEY: u8 = 4;
    let mut server = Server(server);
    server.shake_hands()?;
    server.initialise()?;
    let press = keys.iter().map(|key| (1, key));
    let release = keys.iter().rev().map(|key| (0, key));
    for (is_down, key) in press.chain(release) {
        let mut message = vec![KEY, is_down, 0, 0];
        message.extend(key.to_be_bytes());
        server.0.write_all(&message)?;
    }
    // The server reads all that was sent before it sees that nothing more will come.
    server.0.shutdown(Shutdown::Write)?;
    let _ = io::copy(&mut server.0, &mut io::sink());
    Ok(())
}

struct Server(UnixStream);

impl Server {
    fn shake_hands(&mut self) -> io::Result<()> {
        const NONE: u8 = 1;
        let version: [u8; 12] = self.read()?;
        self.0.write_all(&version)?;
        let [count] = self.read()?;
        let mut kinds = vec![0; usize::from(count)];
        self.0.read_exact(&mut kinds)?;
        if !kinds.contains(&NONE) {
            return Err(io::Error::other("the VNC server wants a password"));
        }
        self.0.write_all(&[NONE])?;
        match self.read()? {
            [0, 0, 0, 0] => Ok(()),
            refused => Err(unexpected("security result", &refused)),
        }
    }

    /// The size of the screen, whose pixels are 32 bits from now on: blue, green, red and nothing.
    fn initialise(&mut self) -> io::Result<(u16, u16)> {
        const SHARED: u8 = 1;
        const SET_PIXEL_FORMAT: [u8; 20] = [
            0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0,
        ];
        self.0.write_all(&[SHARED])?;
        let [width, height] = [self.number()?, self.number()?];
        let _format: [u8; 16] = self.read()?;
        let name = u32::from_be_bytes(self.read()?);
        io::copy(&mut (&mut self.0).take(name.into()), &mut io::sink())?;
        self.0.write_all(&SET_PIXEL_FORMAT)?;
        Ok((width, height))
    }

    /// Asks for the whole screen, and takes the rectangles that come, whose pixels are as they are ("raw").
    fn update(&mut self, picture: &mut Picture) -> io::Result<()> {
        const REQUEST: u8 = 3;
        const ALL: u8 = 0;
        let [w, h] = [picture.width, picture.height].map(u16::to_be_bytes);
        self.0.write_all(&[REQUEST, ALL, 0, 0, 0, 0])?;
        self.0.write_all(&[w, h].concat())?;
        match self.read()? {
            [0, _] => {}
            other => return Err(unexpected("update", &other)),
        }
        for _ in 0..self.number()? {
            let [x, y, width, height] = [
                self.number()?,
                self.number()?,
                self.number()?,
                self.number()?,
            ];
            match self.read()? {
                [0, 0, 0, 0] => {}
                other => return Err(unexpected("encoding", &other)),
            }
            let mut pixels = vec![[0; 4]; usize::from(width)];
            for line in y..y.saturating_add(height) {
                self.0.read_exact(pixels.as_flattened_mut())?;
                let at = usize::from(line) * usize::from(picture.width) + usize::from(x);
                let places = picture.pixels.iter_mut().skip(at);
                for (place, [blue, green, red, _]) in places.zip(&pixels) {
                    *place = [*red, *green, *blue];
                }
            }
        }
        Ok(())
    }

    fn number(&mut self) -> io::Result<u16> {
        self.read().map(u16::from_be_bytes)
    }

    fn read<const SIZE: usize>(&mut self) -> io::Result<[u8; SIZE]> {
        let mut bytes = [0; SIZE];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn unexpected(what: &str, bytes: &[u8]) -> io::Error {
    io::Error::other(format!("the VNC server's {what} is {bytes:?}"))
}
