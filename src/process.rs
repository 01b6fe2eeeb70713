//! The standard `process_*` metrics, read from `/proc` when asked for.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Asks the system about this process. What it does not tell is left out.
#[derive(Debug)]
pub(crate) struct Process;

/// One reading.
#[derive(Debug, Default)]
struct Reading {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: f64,
    max_fds: f64,
}

/// Clock ticks a second in `/proc`: 100 on every Linux there is (USER_HZ).
const TICKS: f64 = 100.0;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(reading) = Reading::take() else { return Ok(()) };
        let cpu =
            encoder.encode_descriptor("process_cpu_seconds", "CPU time used", None, MetricType::Counter)?;
        ConstCounter::new(reading.cpu_seconds).encode(cpu)?;
        let gauges = [
            ("process_start_time_seconds", "When the process started", reading.start_seconds),
            ("process_resident_memory_bytes", "Memory in RAM", reading.resident_bytes),
            ("process_virtual_memory_bytes", "Address space", reading.virtual_bytes),
            ("process_open_fds", "Open file descriptors", reading.open_fds),
            ("process_max_fds", "Most file descriptors that may be open", reading.max_fds),
        ];
        for (name, help, value) in gauges {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        Ok(())
    }
}

impl Reading {
    fn take() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // proc_pid_stat(5): the name in brackets may hold anything; fields are counted behind it, from the third on.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let booted = fs::read_to_string("/proc/stat").ok()?;
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime "))?.parse::<f64>().ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let resident_kib = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()
        })?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let max_fds = limits.lines().find_map(|line| {
            line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<f64>().ok()
        });
        let open_fds = fs::read_dir("/proc/self/fd").ok()?.count();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            start_seconds: booted + field(22)? / TICKS,
            resident_bytes: resident_kib * 1024.0,
            virtual_bytes: field(23)?,
            open_fds: u32::try_from(open_fds).map_or(0.0, f64::from),
            max_fds: max_fds.unwrap_or(f64::INFINITY),
        })
    }
}

/// Memory in RAM, for tests that bound it.
#[cfg(test)]
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kib.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_can_be_read() {
        let reading = super::Reading::take().expect("Linux");
        assert!(reading.resident_bytes > 0.0 && reading.open_fds >= 3.0 && reading.start_seconds > 1e9);
    }
}
