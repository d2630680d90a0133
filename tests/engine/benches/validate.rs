//! What a request costs: a fresh instance of the policy and a call of its `validate`, beside the same for a policy
//! that does nothing. The machine cancels out of the ratio of the two.
//!
//! A fresh instance is made in two ways: *linked* afresh from the compiled module, and *rehydrated* from a linked module,
//! as the policy server does for each request. With `MAX_RATIO` set, a higher ratio for the launcher pod, linked afresh,
//! is an error: the other floor is so low that no policy which reads its request comes near it.
//!
//! The policy is `policy.wasm` of the repository, or `$POLICY_WASM`.

use std::{
    env,
    error::Error,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use criterion::Criterion;
use mesa_preview::request::AdmissionRequest;
use serde_json::{Value, json};
use wapc::WapcHost;
use wasmtime_provider::{
    EpochDeadlines, WasmtimeEngineProvider, WasmtimeEngineProviderBuilder,
    WasmtimeEngineProviderPre, errors,
    wasmtime::{Config, Engine, Module},
};

/// The least that a waPC policy can do: accept.
const DO_NOTHING: &str = r#"(module
  (import "wapc" "__guest_response" (func $respond (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "{\"accepted\":true}")
  (func (export "__guest_call") (param i32 i32) (result i32)
    (call $respond (i32.const 0) (i32.const 17))
    (i32.const 1)))"#;

/// A pod of about 9 KB, as the policy server writes it.
const LAUNCHER_POD: &str = include_str!("launcher-pod.json");

/// The clock of these engines stands still, so one tick lasts for ever.
const DEADLINES: EpochDeadlines = EpochDeadlines {
    wapc_init: 1,
    wapc_func: 1,
};

/// Pairs of samples for a ratio.
const ROUNDS: usize = 3000;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let nothing = Guest::new(&wat::parse_str(DO_NOTHING)?)?;
    let policy = Guest::new(&policy_wasm()?)?;
    let cases = cases()?;

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("validate");
    for case in &cases {
        for (name, guest) in [("nothing", &nothing), ("policy", &policy)] {
            group.bench_function(format!("{name}/{}", case.name), |bencher| {
                bencher.iter(|| guest.validate(Guest::rehydrate, case));
            });
        }
    }
    group.finish();
    criterion.final_summary();

    // `cargo test` runs a benchmark without this flag, once, to see that it works.
    if env::args().any(|argument| argument == "--bench") {
        compare(&nothing, &policy, &cases)?;
    }
    Ok(())
}

/// A compiled guest, and the same linked.
struct Guest {
    compiled: WasmtimeEngineProviderBuilder<'static>,
    linked: WasmtimeEngineProviderPre,
}

impl Guest {
    /// Configured as in the policy server.
    fn new(wasm: &[u8]) -> Result<Self> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config)?;
        let module = Module::new(&engine, wasm)?;
        let compiled = WasmtimeEngineProviderBuilder::new()
            .engine(engine)
            .module(module)
            .enable_epoch_interruptions(DEADLINES);
        let linked = compiled.build_pre()?;
        Ok(Self { compiled, linked })
    }

    fn rehydrate(&self) -> Result<WasmtimeEngineProvider, errors::Error> {
        self.linked.rehydrate(Some(DEADLINES))
    }

    fn link(&self) -> Result<WasmtimeEngineProvider, errors::Error> {
        self.compiled.build()
    }

    fn validate(&self, fresh: Fresh, case: &Case) -> Result<Vec<u8>> {
        let instance = WapcHost::new(Box::new(fresh(self)?), None)?;
        Ok(instance.call("validate", &case.payload)?)
    }
}

/// A way to a fresh instance.
type Fresh = fn(&Guest) -> Result<WasmtimeEngineProvider, errors::Error>;

struct Case {
    name: &'static str,
    payload: Vec<u8>,
}

fn policy_wasm() -> Result<Vec<u8>> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy.wasm");
    let file = env::var_os("POLICY_WASM").map_or(built, PathBuf::from);
    Ok(fs::read(&file)
        .map_err(|error| format!("{}: {error}: run `make policy.wasm` first", file.display()))?)
}

/// A pod that the policy mutates, and one that is none of its business.
fn cases() -> Result<[Case; 2]> {
    let launcher: Value = serde_json::from_str(LAUNCHER_POD)?;
    let mut other = launcher.clone();
    if let Some(labels) = other.pointer_mut("/metadata/labels") {
        *labels = json!({"app": "cad"});
    }
    Ok(
        [("launcher pod", launcher), ("other pod", other)].map(|(name, pod)| {
            let request = AdmissionRequest::to_create(pod, 1);
            let payload = json!({"request": request, "settings": {}})
                .to_string()
                .into_bytes();
            Case { name, payload }
        }),
    )
}

/// Prints the ratios and holds the one that counts against its limit.
fn compare(nothing: &Guest, policy: &Guest, cases: &[Case; 2]) -> Result<()> {
    let limit: Option<f64> = env::var("MAX_RATIO")
        .ok()
        .map(|limit| limit.parse())
        .transpose()?;
    let [launcher, other] = cases;
    ratio("rehydrated", Guest::rehydrate, nothing, policy, launcher)?;
    ratio("rehydrated", Guest::rehydrate, nothing, policy, other)?;
    let counts = ratio("linked", Guest::link, nothing, policy, launcher)?;
    ratio("linked", Guest::link, nothing, policy, other)?;
    match limit {
        Some(limit) if counts > limit => {
            Err(format!("the ratio {counts:.2} is above MAX_RATIO={limit}").into())
        }
        _ => Ok(()),
    }
}

/// The ratio of the medians, from samples that are taken in turns, so that both guests see the same machine.
fn ratio(way: &str, fresh: Fresh, nothing: &Guest, policy: &Guest, case: &Case) -> Result<f64> {
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(time(|| nothing.validate(fresh, case))?);
        ours.push(time(|| policy.validate(fresh, case))?);
    }
    let (floor, ours) = (median(floor), median(ours));
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    let bytes = case.payload.len();
    println!(
        "{:12} ({bytes} bytes), {way:10}: nothing {floor:.1?}, policy {ours:.1?}, ratio {ratio:.2}",
        case.name
    );
    Ok(ratio)
}

fn time<T>(run: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let start = Instant::now();
    black_box(run()?);
    Ok(start.elapsed())
}

fn median(mut samples: Vec<Duration>) -> Duration {
    let middle = samples.len() / 2;
    *samples.select_nth_unstable(middle).1
}
