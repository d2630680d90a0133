//! The engine that the policy server embeds, so that tests and benches can run `policy.wasm` in it.

use wapc::WapcHost;
use wasmtime_provider::wasmtime::{Engine, Module};
use wasmtime_provider::{WasmtimeEngineProviderBuilder, WasmtimeEngineProviderPre};

/// Any failure: its message is all that is left to do with it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A module that was linked once, as the policy server does it.
pub struct Embedded(WasmtimeEngineProviderPre);

impl Embedded {
    /// Compiles a module.
    ///
    /// # Errors
    /// Where it is not a waPC module.
    pub fn new(wasm: &[u8]) -> Result<Self, Failure> {
        let engine = Engine::default();
        let module = Module::new(&engine, wasm)?;
        let builder = WasmtimeEngineProviderBuilder::new()
            .engine(engine)
            .module(module);
        Ok(Self(builder.build_pre()?))
    }

    /// Calls a function of a fresh instance, which can call nothing of the host.
    ///
    /// # Errors
    /// Where the guest answers with an error, or traps.
    pub fn call(&self, function: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let refuse = |_: u64, _: &str, _: &str, _: &str, _: &[u8]| Err("a host call".into());
        let instance = self.0.rehydrate(None)?;
        let host = WapcHost::new(Box::new(instance), Some(Box::new(refuse)))?;
        Ok(host.call(function, payload)?)
    }
}
