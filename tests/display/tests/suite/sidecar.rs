//! The hook that the policy puts beside the compute container, as virt-launcher calls it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use tonic::Status;

use crate::client::{Client, VMI};
use crate::stand::Admitted;

/// The sidecar of a pod, as its own container; it ends with this value.
pub(crate) struct Hook(Child, File);

impl Hook {
    pub(crate) fn start(pod: &Admitted<'_>) -> Self {
        let directory = pod.volume("mesa-injector-hooks/mesa-injector");
        fs::create_dir_all(&directory).unwrap();
        // That of a hook before it.
        let _ = fs::remove_file(directory.join("mesa-injector.sock"));
        let child = pod.start("mesa-injector-hook").spawn().unwrap();
        let mut hook = Hook(child, File::open(&directory).unwrap());
        let until = Instant::now() + Duration::from_secs(30);
        while !directory.join("mesa-injector.sock").exists() {
            assert_eq!(hook.0.try_wait().unwrap(), None, "the hook ended");
            assert!(Instant::now() < until, "the hook does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        hook
    }

    /// virt-launcher's call.
    pub(crate) fn on_define_domain(&self, domain: &str) -> String {
        self.answer(domain).unwrap()
    }

    /// Why it refuses a domain.
    pub(crate) fn refuses(&self, domain: &str) -> String {
        self.answer(domain).unwrap_err().message().to_owned()
    }

    fn answer(&self, domain: &str) -> Result<String, Status> {
        // The address of a socket is short, and the path of a checkout may be long.
        let socket = format!("/proc/self/fd/{}/mesa-injector.sock", self.1.as_raw_fd());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let client = Client::connect(&PathBuf::from(socket)).await;
            let info = client.info().await;
            assert_eq!(info.versions, ["v1alpha3"]);
            client.on_define_domain(domain, VMI).await
        })
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
