//! The engine of the policy server, embedded: a compiled [`Policy`] and its [`Instance`]s.

use std::{io, path::Path, thread, time::Duration};

use wapc::WapcHost;
use wasmtime_provider::{
    EpochDeadlines, WasmtimeEngineProviderBuilder, WasmtimeEngineProviderPre,
    wasmtime::{self, Config, Engine, InstanceAllocationStrategy, Module, PoolingAllocationConfig},
};

/// How often the engine's clock ticks; a running guest looks at it.
const TICK: Duration = Duration::from_millis(100);

/// How many ticks a call into the guest may take: two seconds, the default `--policy-timeout` of the policy server.
const DEADLINE: u64 = 20;

/// How much memory, in bytes, a guest may have. The policy server sets no limit but that of its own pod.
const MAX_MEMORY: usize = 512 << 20;

/// How many instances of a policy may live at a time.
const MAX_INSTANCES: u32 = 16;

/// What every Wasm binary begins with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// A waPC policy, compiled and linked: instances of it cost microseconds.
pub struct Policy {
    prepared: WasmtimeEngineProviderPre,
}

/// Why a file is no policy. The text goes on after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{0}; build the policy with `make policy.wasm`, or name another file with --policy")]
    Read(#[from] io::Error),
    /// The file is something else.
    #[error("not a Wasm module; give the policy.wasm that `make policy.wasm` builds")]
    NotWasm,
    /// The module is broken, or needs a Wasm feature that the policy server has not got.
    #[error("the policy server cannot compile it: {0}; build it with `make policy.wasm`")]
    Compile(String),
    /// The module needs functions that the policy server does not offer.
    #[error("not a waPC policy: {0}; a policy may import only wapc and wasi_snapshot_preview1")]
    Link(String),
}

impl Policy {
    /// Compiles the policy in a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not a waPC policy.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        Self::compile(&std::fs::read(file)?)
    }

    /// Compiles a policy.
    ///
    /// # Errors
    ///
    /// When `wasm` is not a waPC policy.
    pub fn compile(wasm: &[u8]) -> Result<Self, LoadError> {
        if !wasm.starts_with(WASM_MAGIC) {
            return Err(LoadError::NotWasm);
        }
        let engine = engine().map_err(|e| LoadError::Compile(format!("{e:#}")))?;
        let module =
            Module::new(&engine, wasm).map_err(|e| LoadError::Compile(format!("{e:#}")))?;
        tick(&engine);
        let prepared = WasmtimeEngineProviderBuilder::new()
            .engine(engine)
            .module(module)
            .build_pre()
            .map_err(|e| LoadError::Link(e.to_string()))?;
        Ok(Self { prepared })
    }

    /// A fresh instance, which knows nothing of earlier calls.
    ///
    /// # Errors
    ///
    /// When the module lacks waPC's entry point, or its initialization fails or takes too long.
    pub fn instantiate(&self) -> Result<Instance, wapc::errors::Error> {
        let deadlines = EpochDeadlines {
            wapc_init: DEADLINE,
            wapc_func: DEADLINE,
        };
        let engine = self.prepared.rehydrate(Some(deadlines))?;
        let host = WapcHost::new(Box::new(engine), Some(Box::new(answer_host_call)))?;
        Ok(Instance { host })
    }
}

/// A running policy.
pub struct Instance {
    host: WapcHost,
}

impl Instance {
    /// Calls a waPC function of the policy.
    ///
    /// # Errors
    ///
    /// When the policy answers with an error, traps, or runs longer than two seconds.
    pub fn call(&self, function: &str, payload: &[u8]) -> Result<Vec<u8>, wapc::errors::Error> {
        self.host.call(function, payload)
    }
}

/// An engine configured as the policy server's, but for the limit on memory.
fn engine() -> Result<Engine, wasmtime::Error> {
    let mut pool = PoolingAllocationConfig::default();
    pool.max_memory_size(MAX_MEMORY)
        .total_memories(MAX_INSTANCES)
        .total_tables(MAX_INSTANCES)
        .total_core_instances(MAX_INSTANCES);
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_function_references(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Lets the engine's clock tick for as long as somebody uses the engine.
fn tick(engine: &Engine) {
    let engine = engine.weak();
    thread::spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    });
}

/// What the policy server offers to a policy that was granted nothing: its log.
fn answer_host_call(
    _instance: u64,
    binding: &str,
    namespace: &str,
    operation: &str,
    payload: &[u8],
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    match (binding, namespace, operation) {
        ("kubewarden", "tracing", "log") => {
            eprintln!("policy log: {}", String::from_utf8_lossy(payload));
            Ok(Vec::new())
        }
        _ => Err(format!(
            "mesa-preview has no cluster: host call {binding}/{namespace}/{operation} is refused"
        )
        .into()),
    }
}
