//! Reading the files an operator names: regular ones, within a bound.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use crate::units::Size;

/// Why a file was not read.
#[derive(Debug)]
pub(crate) enum Refusal {
    Io(io::ErrorKind),
    /// A directory, a pipe, a device: reading one may never end.
    NotRegular,
    Larger(Size),
}

/// The bytes of a regular file (links are followed), if there are at most `bytes_max`.
pub(crate) fn read(path: &Path, bytes_max: Size) -> Result<Vec<u8>, Refusal> {
    if !fs::metadata(path)?.is_file() {
        return Err(Refusal::NotRegular);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.0 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max.bytes() { Err(Refusal::Larger(bytes_max)) } else { Ok(bytes) }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(io::ErrorKind::NotFound) => f.write_str("no such file"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::NotRegular => f.write_str("not a regular file"),
            Self::Larger(max) => write!(f, "larger than {max}"),
        }
    }
}
