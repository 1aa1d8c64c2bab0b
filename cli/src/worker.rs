//! `orkestra worker`: one process runs the app, several are supervised.

use orkestra::clock::SystemClock;

use crate::{
    Host,
    arguments::Worker,
    exit,
    supervision::Policy,
    supervisor::{self, Program},
};

pub(crate) fn run(worker: &Worker, host: &dyn Host) -> i32 {
    if let Some(supervisor) = worker.supervisor
        && !die_with(supervisor)
    {
        return exit::FAILED;
    }
    if worker.processes == 1 {
        return host.run_worker(&worker.target);
    }
    let mut command = host.command();
    command.extend([
        "worker".into(),
        worker.target.clone().into(),
        "--supervisor".into(),
        std::process::id().to_string().into(),
    ]);
    supervisor::run(
        &Program(command),
        worker.processes.into(),
        Policy::default(),
        &SystemClock::default(),
    )
}

/// Asks the kernel to kill this process when its supervisor dies; false if that has happened already.
#[cfg(target_os = "linux")]
fn die_with(supervisor: i32) -> bool {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::KILL)).is_ok()
        && getppid().map(Pid::as_raw_nonzero).map(i32::from) == Some(supervisor)
}

/// Other kernels cannot be asked.
#[cfg(not(target_os = "linux"))]
fn die_with(_: i32) -> bool {
    true
}
