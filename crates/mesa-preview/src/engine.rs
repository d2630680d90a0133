//! The engine that runs a policy: an interpreter, which is small to build and quick to start.
//!
//! The policy server compiles a policy to machine code instead. For the guest the two are the same, down to the
//! bytes of its answers: `tests/engine` compares them. A guest that runs too long is interrupted in both, here after
//! a fixed number of steps, so that a preview does not depend on how fast the machine is.

mod guest;
mod wapc;
mod wasi;

use std::{io, path::Path};

use wasmi::{
    CompilationMode, Config, Engine, Error, Linker, Module, OperatorCost, Store, TrapCode,
    TypedFunc,
    errors::{ErrorKind, LinkerError},
};

use guest::Guest;

/// How much fuel, about one unit a Wasm instruction, a call into the guest may use.
///
/// The policy of this repository uses about four million for a launcher pod of 10 KB with its settings. A loop without end
/// is interrupted after about as many seconds as in the policy server, whose bound is two.
pub const FUEL: u64 = 2_000_000_000;

/// How much memory, in bytes, a guest may have. The policy server sets no limit but that of its own pod.
const MAX_MEMORY: usize = 512 << 20;

/// How many elements the guest's tables may have, as in the policy server's engine.
const MAX_TABLE_ELEMENTS: usize = 20_000;

/// What every Wasm binary begins with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// What waPC's host in the policy server calls before the first call, where the guest has it.
const INITIALIZERS: [&str; 2] = ["_start", "wapc_init"];

/// What waPC's host in the policy server says of a guest that ran too long.
const INTERRUPTED: &str = "guest code interrupted, execution deadline exceeded";

/// A waPC policy, checked and linked: instances of it are cheap.
pub struct Policy {
    module: Module,
    linker: Linker<Guest>,
}

/// Why a file is not a policy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// The file is something else.
    #[error("not a Wasm module")]
    NotWasm,
    /// The module is broken, or needs a Wasm feature that the interpreter does not have.
    #[error("mesa-preview's interpreter cannot load it: {0}")]
    Compile(Error),
    /// The module needs functions that the policy server does not offer.
    #[error("not a waPC policy: {0}; a policy may import only wapc and wasi_snapshot_preview1")]
    Link(String),
}

/// Why a call has no answer. The names and texts are those of the waPC host in the policy server, which shows both.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The guest lacks the entry point, or its initialization fails.
    #[error("Initialization failed: {0}")]
    InitFailed(String),
    /// The guest answered with an error, trapped, or was interrupted.
    #[error("Guest call failure: {0}")]
    GuestCallFailure(String),
}

impl CallError {
    /// Whether the guest was interrupted because it ran too long.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        let (Self::InitFailed(text) | Self::GuestCallFailure(text)) = self;
        text.ends_with(INTERRUPTED)
    }
}

impl Policy {
    /// Loads the policy in a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not a waPC policy.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        Self::compile(&std::fs::read(file)?)
    }

    /// Loads a policy.
    ///
    /// # Errors
    ///
    /// When `wasm` is not a waPC policy.
    pub fn compile(wasm: &[u8]) -> Result<Self, LoadError> {
        if !wasm.starts_with(WASM_MAGIC) {
            return Err(LoadError::NotWasm);
        }
        let mut config = Config::default();
        config
            .compilation_mode(CompilationMode::Eager)
            .consume_fuel(true)
            .operator_cost(operator_cost());
        let engine = Engine::new(&config);
        let module = Module::new(&engine, wasm).map_err(LoadError::Compile)?;
        let mut linker = Linker::new(&engine);
        wapc::define(&mut linker)
            .and_then(|()| wasi::define(&mut linker, &module))
            .map_err(|error| LoadError::Link(error.to_string()))?;
        let policy = Self { module, linker };
        // What is missing shows only when an instance is made.
        match Instance::start(&policy) {
            Err(error) if is_of_linking(&error) => Err(LoadError::Link(describe(&error))),
            _ => Ok(policy),
        }
    }

    /// A fresh instance, which knows nothing of earlier calls.
    ///
    /// # Errors
    ///
    /// When the module lacks waPC's entry point, or its initialization fails or takes too long.
    pub fn instantiate(&self) -> Result<Instance, CallError> {
        Instance::start(self).map_err(|error| CallError::InitFailed(describe(&error)))
    }
}

/// A running policy.
pub struct Instance {
    store: Store<Guest>,
    guest_call: TypedFunc<(u32, u32), u32>,
}

impl Instance {
    fn start(policy: &Policy) -> Result<Self, Error> {
        let mut store = Store::new(policy.module.engine(), Guest::new());
        store.limiter(|guest| &mut guest.limits);
        store.set_fuel(FUEL)?;
        let instance = policy
            .linker
            .instantiate_and_start(&mut store, &policy.module)?;
        let guest_call = instance
            .get_typed_func(&store, "__guest_call")
            .map_err(|_| {
                Error::new("Guest call function (__guest_call) not exported by wasm module.")
            })?;
        for name in INITIALIZERS {
            if instance.get_export(&store, name).is_none() {
                continue;
            }
            let initialize = instance.get_typed_func::<(), ()>(&store, name)?;
            store.set_fuel(FUEL)?;
            match initialize.call(&mut store, ()) {
                // What TinyGo makes of a `main` that returns.
                Err(error) if error.i32_exit_status() == Some(0) => {}
                result => result?,
            }
        }
        Ok(Self { store, guest_call })
    }

    /// Calls a waPC function of the policy.
    ///
    /// # Errors
    ///
    /// When the policy answers with an error, traps, or uses more than [`FUEL`].
    pub fn call(&mut self, function: &str, payload: &[u8]) -> Result<Vec<u8>, CallError> {
        let lengths = self.store.data_mut().ask(function, payload);
        let result = self
            .store
            .set_fuel(FUEL)
            .and_then(|()| self.guest_call.call(&mut self.store, lengths));
        match result {
            Ok(success) => self.store.data_mut().answer(success != 0),
            Err(trap) => Err(describe(&trap)),
        }
        .map_err(CallError::GuestCallFailure)
    }

    /// How much of [`FUEL`] the last call used.
    #[must_use]
    pub fn fuel_used(&self) -> u64 {
        FUEL - self.store.get_fuel().unwrap_or(FUEL)
    }
}

/// What takes longer than most instructions uses more fuel, so that all ways to run for ever end about equally soon.
fn operator_cost() -> OperatorCost {
    OperatorCost {
        br: 3,
        br_if: 2,
        br_table: 2,
        call: 12,
        return_call: 12,
        call_indirect: 16,
        return_call_indirect: 16,
        memory_copy: 16,
        memory_fill: 16,
        memory_init: 16,
        memory_grow: 24,
        table_grow: 24,
        ..OperatorCost::default()
    }
}

/// Whether the module itself is at fault, rather than what it does when it starts.
fn is_of_linking(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Linker(_) | ErrorKind::Instantiation(_)
    )
}

/// What went wrong in a guest, in the policy server's words where there are some.
fn describe(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Linker(LinkerError::MissingDefinition { name, .. }) => format!(
            "unknown import: `{}::{}` has not been defined",
            name.module(),
            name.name()
        ),
        _ if error.as_trap_code() == Some(TrapCode::OutOfFuel) => INTERRUPTED.to_owned(),
        _ => error.to_string().trim_end().to_owned(),
    }
}
