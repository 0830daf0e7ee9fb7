//! The engine that runbooks run in: what they can reach, and every limit they have.
//!
//! A raw engine with chosen packages: no files, no processes, no network, no clock, no chance. What acts on the world are the primitives
//! alone, and those only ask. Each evaluation has an engine of its own, made in microseconds from modules that all of them share.

use super::session::Session;
use super::{bounded, budget, primitives};
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, BasicMathPackage,
    BasicStringPackage, BitFieldPackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{
    Dynamic, Engine, EvalAltResult, FuncRegistration, Module, ModuleResolver, NativeCallContext, OptimizationLevel,
    Position, RhaiFunc, Shared,
};
use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Rhai's operations (about one for each expression) in one evaluation, the replay of the steps so far included.
pub const MAX_OPERATIONS: u64 = 200_000;
/// Script functions calling each other.
pub const MAX_CALL_DEPTH: usize = 48;
/// Levels of the grammar within each other; a nested array or block takes up to three of them.
pub const MAX_EXPRESSION_DEPTH: usize = 64;
/// Text in one value, all its parts together, in bytes. Large enough for `services()` of a cluster with hundreds of services.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Array elements in one value, all its parts together.
pub const MAX_ARRAY_ITEMS: usize = 50_000;
/// Map entries in one value, all its parts together.
pub const MAX_MAP_ENTRIES: usize = 50_000;
/// Variables that exist at a time.
pub const MAX_VARIABLES: usize = 1_000;
/// Functions of one file, closures included.
pub const MAX_FUNCTIONS: usize = 1_000;
/// Modules that one program imports.
pub const MAX_MODULES: usize = 32;
/// One source file, in bytes.
pub const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Processor time of one evaluation. Not the clock on the wall: on a busy machine a script may have to wait, which is not its fault.
pub const TIME_LIMIT: Duration = Duration::from_secs(2);
/// The clock is looked at once in so many operations.
const CLOCK_EVERY_OPERATIONS: u64 = 8;
/// A script can nest values so deep that dropping them needs a large stack; so can an expression that is evaluated.
pub const STACK_BYTES: usize = 64 << 20;

/// The functions that scripts have beside the primitives.
static LIBRARY: LazyLock<Shared<Module>> = LazyLock::new(|| {
    let mut library = Module::new();
    // Left out: LanguageCore (its `sleep` blocks the thread, its `exit` leaves without a word), time, blobs, debugging.
    ArithmeticPackage::init(&mut library);
    BitFieldPackage::init(&mut library);
    LogicPackage::init(&mut library);
    BasicFnPackage::init(&mut library);
    BasicIteratorPackage::init(&mut library);
    BasicMathPackage::init(&mut library);
    BasicArrayPackage::init(&mut library);
    BasicMapPackage::init(&mut library);
    BasicStringPackage::init(&mut library);
    MoreStringPackage::init(&mut library);
    // Looked up by name in each evaluation otherwise.
    library.register_lazy_functions();
    bounded::replace_unbounded(&mut library);
    library.build_index();
    library.into()
});

/// The primitives, as functions: each finds the session of its engine and asks it.
static PRIMITIVES: LazyLock<Shared<Module>> = LazyLock::new(|| {
    let mut module = Module::new();
    for primitive in primitives::PRIMITIVES {
        let (fewest, most) = primitive.arity();
        for arity in fewest..=most {
            // Any type is taken, so that the error for a wrong one can say what is right.
            let types = vec![TypeId::of::<Dynamic>(); arity];
            let ask = move |context: Option<NativeCallContext>, args: &mut [&mut Dynamic]| {
                let context = context.expect("a function that asks for its context is given it");
                match Session::of(&context) {
                    Some(session) => session.call(primitive, &context, args),
                    None => Err("no primitive can be called here".into()),
                }
            };
            let function = RhaiFunc::Pure { func: Arc::new(ask), has_context: true, is_pure: true, is_volatile: true };
            FuncRegistration::new(primitive.name).set_into_module_raw(&mut module, types, function);
        }
    }
    module.build_index();
    module.into()
});

/// The engine that compiles: it has every limit of the grammar, and never runs a script.
pub static COMPILER: LazyLock<Engine> = LazyLock::new(raw);

/// The modules of a program, compiled: by path as it is imported, `lib/services`.
pub type Modules = Arc<BTreeMap<String, Shared<Module>>>;

fn raw() -> Engine {
    let mut engine = Engine::new_raw();
    engine
        .set_max_operations(MAX_OPERATIONS)
        .set_max_call_levels(MAX_CALL_DEPTH)
        .set_max_expr_depths(MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_DEPTH)
        .set_max_string_size(MAX_TEXT_BYTES)
        .set_max_array_size(MAX_ARRAY_ITEMS)
        .set_max_map_size(MAX_MAP_ENTRIES)
        .set_max_variables(MAX_VARIABLES)
        .set_max_functions(MAX_FUNCTIONS)
        .set_max_modules(MAX_MODULES)
        .set_strict_variables(true)
        // A misspelt label must not read as ().
        .set_fail_on_invalid_map_property(true)
        // Nothing is computed while compiling: the lint sees what people wrote.
        .set_optimization_level(OptimizationLevel::None)
        .disable_symbol("eval");
    engine
}

/// An engine for one evaluation.
pub fn engine(session: &Session, modules: impl ModuleResolver + 'static) -> Engine {
    let mut engine = raw();
    engine.register_global_module(LIBRARY.clone());
    engine.register_global_module(PRIMITIVES.clone());
    engine.set_module_resolver(modules);
    engine.set_default_tag(Dynamic::from(session.clone()));
    let watched = session.clone();
    let (earliest, computed) = (Instant::now() + TIME_LIMIT, thread_time());
    engine.on_progress(move |operations| {
        if watched.stopped() {
            return Some(Dynamic::UNIT);
        }
        if budget::exceeded() {
            drop(out_of_memory(Some(&watched)));
            return Some(Dynamic::UNIT);
        }
        // It has not computed for longer than has passed; and that is the cheaper question.
        let looks = operations % CLOCK_EVERY_OPERATIONS == 0 && Instant::now() > earliest;
        if looks && thread_time().saturating_sub(computed) > TIME_LIMIT {
            drop(watched.exhausted(format!("the script computes longer than {} s", TIME_LIMIT.as_secs())));
            return Some(Dynamic::UNIT);
        }
        None
    });
    let printed = session.clone();
    engine.on_print(move |text| printed.log(text));
    let debugged = session.clone();
    engine.on_debug(move |text, _, _| debugged.log(text));
    engine
}

/// The processor time of this thread so far.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Ends the evaluation of a session for the memory that it holds.
pub fn out_of_memory(session: Option<&Session>) -> Box<EvalAltResult> {
    let message = format!("the script holds more than {} MiB", budget::MEMORY_LIMIT_BYTES >> 20);
    match session {
        Some(session) => session.exhausted(message),
        None => message.into(),
    }
}

/// Hands out the modules of a compiled program, and nothing else.
pub struct Pinned(pub Modules);

impl ModuleResolver for Pinned {
    fn resolve(
        &self,
        _: &Engine,
        _: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let found = self.0.get(path).cloned();
        found.ok_or_else(|| EvalAltResult::ErrorModuleNotFound(path.to_string(), position).into())
    }
}

/// The file of a module, below `runbooks/`: `lib/services` is `lib/services.rhai`.
pub fn module_file(path: &str) -> String {
    if path.ends_with(".rhai") { path.to_string() } else { format!("{path}.rhai") }
}

/// Every function that a script can call without defining it, the primitives included.
pub fn known_functions() -> &'static BTreeMap<String, Vec<usize>> {
    static KNOWN: LazyLock<BTreeMap<String, Vec<usize>>> = LazyLock::new(|| {
        let engine = engine(&Session::declaring(), Pinned(Modules::default()));
        let mut known: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let all =
            engine.collect_fn_metadata(None, |it| Some((it.metadata.name.to_string(), it.metadata.num_params)), true);
        for (name, arguments) in all {
            known.entry(name).or_default().push(arguments);
        }
        known
    });
    &KNOWN
}

/// Does work on a thread whose stack is deep enough for any script, and waits for it. Within such a thread it is done on the spot, so
/// that who compiles many programs pays for one thread.
pub fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if DEEP.get() {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("runbook".to_string())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || as_deep_thread(work))
            .expect("the system has a thread to give");
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Marks the thread as one with a deep stack. Only for threads that were made with `STACK_BYTES`.
pub fn as_deep_thread<T>(work: impl FnOnce() -> T) -> T {
    DEEP.set(true);
    work()
}

thread_local! {
    static DEEP: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}
