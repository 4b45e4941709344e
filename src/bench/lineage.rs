//! Where a measurement comes from: machine, model files, earlier artifacts.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::artifact::{Artifact, Hardware, Model, Parent, Unusable};

/// The machine this runs on. What it does not tell is left out.
pub(super) fn hardware() -> Hardware {
    let read = |path: &str| fs::read_to_string(path).ok();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal"));
    let kib = memory.and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
    let load = read("/proc/loadavg");
    Hardware {
        cpu: read("/proc/cpuinfo").and_then(|text| field(&text, "model name")),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: kib.map(|kib| kib * 1024),
        gpus: gpus(),
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        load_1m: load.and_then(|text| text.split(' ').next()?.parse().ok()),
    }
}

fn gpus() -> Vec<String> {
    let query = [
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ];
    match Command::new("nvidia-smi").args(query).output() {
        Ok(told) if told.status.success() => {
            let text = String::from_utf8_lossy(&told.stdout).into_owned();
            text.lines().map(str::to_owned).collect()
        }
        // A machine without one, or of another maker.
        _ => Vec::new(),
    }
}

/// The model in a file, which is read whole for its hash. One that is not here has its name only.
pub(super) fn model(path: &Path) -> Model {
    let file = path.file_name().unwrap_or(path.as_os_str());
    Model {
        file: file.to_string_lossy().into_owned(),
        sha256: sha256(path).ok(),
        bytes: fs::metadata(path).map(|meta| meta.len()).ok(),
    }
}

/// The artifact in a file, as a parent of another one.
pub(super) fn parent(path: &Path) -> Result<Parent, Unusable> {
    let artifact = Artifact::read(path)?;
    let sha256 = sha256(path).map_err(|error| Unusable {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    Ok(Parent {
        id: artifact.id,
        sha256,
    })
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&piece[..n]),
        }
    }
}

/// In hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_file_is_known_by_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        fs::write(&path, "abc").unwrap();
        let model = model(&path);
        assert_eq!((model.file.as_str(), model.bytes), ("m.gguf", Some(3)));
        // FIPS 180-4, the example of one block.
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(model.sha256.as_deref(), Some(wanted));
        assert_eq!(super::model(Path::new("/nowhere/x.gguf")).sha256, None);
        assert!(hardware().threads > 0);
    }
}
