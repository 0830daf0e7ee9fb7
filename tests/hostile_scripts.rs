//! Scripts that mean harm, or have a bug that looks like it: each ends with a clear error, in bounded time and memory, and the process
//! lives on.

use runbookd::model::run::{Handler, Input, Sources};
use runbookd::runbook::budget;
use runbookd::runbook::evaluate::{Evaluation, Evaluator, FailureKind, Job, Next};
use runbookd::runbook::program::Program;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The limit is looked at between operations, and one operation can at most copy what is there.
const MOST_BYTES: usize = 3 * budget::MEMORY_LIMIT_BYTES;

fn compile(main: String) -> Result<Arc<Program>, String> {
    let sources = Sources { name: "hostile".into(), main: main.into(), modules: BTreeMap::new() };
    match Program::compile(Arc::new(sources)) {
        Ok((program, _)) => Ok(Arc::new(program)),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

async fn evaluate(script: &str) -> Evaluation {
    let main = if script.contains("fn on_firing") {
        script.to_string()
    } else {
        format!("fn on_firing(alert, params) {{\n{script}\n}}")
    };
    let program = compile(main).unwrap_or_else(|errors| panic!("{script}: {errors}"));
    let input = Arc::new(Input { alert: json!({"labels": {}}), params: json!({}) });
    let job = Job { program, handler: Handler::OnFiring, input, history: vec![], poll: None };
    // On a pool, so that the thread that met the script is the one that must live on.
    let evaluator = Evaluator::pool(1);
    let evaluation = evaluator.evaluate(job).await;
    assert_eq!(alive(&evaluator).await, Next::Done(json!(2)), "the thread is of no more use after {script}");
    evaluation
}

async fn alive(evaluator: &Evaluator) -> Next {
    let program = compile("fn on_firing(alert, params) { 1 + 1 }".into()).expect("compiles");
    let input = Arc::new(Input { alert: json!({}), params: json!({}) });
    evaluator.evaluate(Job { program, handler: Handler::OnFiring, input, history: vec![], poll: None }).await.next
}

/// The script fails by one of these limits. Which one it meets first may depend on how fast the machine is.
async fn check(script: &str, expect: &[FailureKind]) {
    let evaluation = evaluate(script).await;
    let Next::Failed(failure) = &evaluation.next else { panic!("{script}: {:?}", evaluation.next) };
    assert!(expect.contains(&failure.kind), "{script}: {failure:?}");
    assert!(failure.message.len() > 10 && failure.message.len() < 3_000, "{script}: {failure:?}");
    assert_eq!(failure.file, "hostile.rhai", "{script}: {failure:?}");
    assert!(failure.line > 0, "{script}: {failure:?}");
    let peak = budget::highest_peak_bytes();
    assert!(peak < MOST_BYTES, "{script}: {peak} bytes at most, {failure:?}");
}

const LIMIT: &[FailureKind] = &[FailureKind::Limit, FailureKind::Resources];
const MEMORY: &[FailureKind] = &[FailureKind::Resources];
const ANY: &[FailureKind] = &[FailureKind::Limit, FailureKind::Resources, FailureKind::Script];

#[tokio::test]
async fn endless_loops_end() {
    for script in [
        "loop {}",
        "while true {}",
        "loop { let x = 1; }",
        "for i in 0..9223372036854775807 {}",
        "for i in range(0, 9223372036854775807, 1) { continue; }",
        "do { } while true",
        "let i = 0; while i >= 0 { i += 1; }",
        "try { loop {} } catch { loop {} }",
        "loop { try { throw 1; } catch {} }",
        "let a = [1, 2, 3]; loop { a.sort(|x, y| y - x); }",
    ] {
        check(script, LIMIT).await;
    }
}

#[tokio::test]
async fn recursion_ends() {
    for script in [
        "fn f(x) { f(x + 1) } fn on_firing(alert, params) { f(0) }",
        "fn f(x) { g(x) } fn g(x) { f(x) } fn on_firing(alert, params) { f(0) }",
        "fn f(x) { 1 + (2 * (3 + (4 * (5 + (6 * (7 + (8 * f(x + 1)))))))) } fn on_firing(alert, params) { f(0) }",
        "fn f(x) { [x].map(|y| f(y)) } fn on_firing(alert, params) { f(0) }",
        "fn f(x) { let g = |y| f(y); g.call(x) } fn on_firing(alert, params) { f(0) }",
        "fn f(x) { if true { if true { switch x { _ => { loop { return f(x + 1); } } } } } } fn on_firing(alert, params) { f(0) }",
    ] {
        check(script, ANY).await;
    }
    let (open, close) = ("[".repeat(16), "]".repeat(16));
    check(&format!("fn f(x) {{ {open}f(x){close} }} fn on_firing(alert, params) {{ f(0) }}"), LIMIT).await;
    check(&format!("fn f(x) {{ [1].map(|y| {open}f(y){close}) }} fn on_firing(alert, params) {{ f(0) }}"), LIMIT).await;
}

#[tokio::test]
async fn growing_text_ends() {
    for script in [
        "let s = \"x\"; loop { s += s; }",
        "let s = \"x\"; loop { s = s + s; }",
        "let s = \"x\"; loop { s = `${s}${s}`; }",
        "let s = \"\"; s.pad(9223372036854775807, 'x');",
        "let s = \"\"; s.pad(9223372036854775807, \"xyz\");",
        "let s = \"\"; s.pad(60000, 'x'); let t = s; s.replace(\"x\", t); s",
        "let s = \"\"; s.pad(60000, 'x'); let t = s; s.replace('x', t); s",
        "let s = \"\"; s.pad(60000, 'x'); let t = s; s.replace(\"\", t); s",
        "let s = \"\"; s.pad(1000000, 'x'); loop { s += s.to_upper(); }",
        "let s = \"\"; s.pad(1000000, 'x'); s.split(\"\")",
        "let s = \"\"; s.pad(1000000, 'x'); s.to_chars()",
        "let s = \"\"; s.pad(1000000, 'x'); let m = #{}; loop { m[s] = s; s += \"y\"; }",
    ] {
        check(script, ANY).await;
    }
}

#[tokio::test]
async fn growing_collections_end() {
    for script in [
        "let a = [1]; loop { a += a; }",
        "let a = [1]; loop { a = a + a; }",
        "let a = [1]; loop { a.append(a); }",
        "let a = [1]; loop { a = [a, a]; }",
        "let a = []; loop { a.push(a); }",
        "let a = []; a.pad(9223372036854775807, 0);",
        "let a = []; a.pad(50000, 0); let b = []; b.pad(50000, a);",
        "let a = []; for i in 0..9223372036854775807 { a.insert(0, i); }",
        "let m = #{}; for i in 0..9223372036854775807 { m[`${i}`] = i; }",
        "let m = #{a: 1}; loop { m = #{a: m, b: m}; }",
        "let m = #{}; loop { m.m = m; }",
    ] {
        check(script, ANY).await;
    }
}

#[tokio::test]
async fn many_middling_values_end() {
    for script in [
        // Strings and arrays below every limit, in as many variables, closures and maps as there can be.
        "let all = []; loop { let s = \"\"; s.pad(1000000, 'x'); let f = || s; all.push(f); }",
        "let all = []; loop { let a = []; a.pad(50000, 0); let f = || a; all.push(f); }",
        "let all = []; loop { let a = []; a.pad(10000, 0); all.push(Fn(\"f\").curry(a)); }",
        "let a = []; a.pad(50000, 0); let f = Fn(\"f\").curry(a); let b = []; b.pad(50000, f);",
        "let a = []; a.pad(50000, 0); let f = Fn(\"f\").curry(a); let b = [f]; loop { b += b; }",
        "let a = []; a.pad(50000, 0); let f = Fn(\"f\"); loop { f = f.curry(a); }",
        "let a = []; a.pad(50000, 0); let f = Fn(\"f\").curry(a); loop { f = Fn(\"f\").curry(f).curry(f); }",
    ] {
        check(script, MEMORY).await;
    }
}

#[tokio::test]
async fn deep_nesting_does_not_break_the_stack() {
    for script in [
        "let f = || 0; loop { let g = f; f = || g; }",
        "let f = Fn(\"f\"); loop { f = Fn(\"f\").curry(f); }",
        "let a = []; loop { a = [a]; }",
        "let m = #{}; loop { m = #{m: m}; }",
        "let a = []; for i in 0..1000 { a = [a]; } loop { print(a); }",
        "let a = []; for i in 0..1000 { a = [a]; } let b = a; loop { if a != b { throw 1; } }",
        "let m = #{}; for i in 0..1000 { m = #{m: m}; } loop { m.to_json(); debug(m); `${m}` }",
        "let f = || 0; for i in 0..20000 { let g = f; f = || g; } throw f;",
        "let a = []; for i in 0..1000 { a = [a]; } throw a;",
        "let a = []; for i in 0..1000 { a = [a]; } scale(a, a);",
        "let a = []; for i in 0..1000 { a = [a]; } update(\"web\", #{env: #{a: a}});",
    ] {
        check(script, ANY).await;
    }
    let returned = evaluate("let a = []; for i in 0..200 { a = [a]; } a").await;
    assert_eq!(returned.next, Next::Done(json!(null)));
}

#[test]
fn sources_too_deep_or_too_large_are_refused_with_a_place() {
    let nested = |open: &str, close: &str, count: usize| {
        format!("fn on_firing(alert, params) {{ let x = {}1{}; }}", open.repeat(count), close.repeat(count))
    };
    for (main, says) in [
        (nested("(", ")", 100_000), "too deep"),
        (nested("[", "]", 100_000), "too deep"),
        (nested("#{a:", "}", 20_000), "too deep"),
        (nested("{", "}", 100_000), "too deep"),
        (nested("- ", "", 100_000), "too deep"),
        (nested("!", "", 100_000), "too deep"),
        (nested("1+(", ")", 60_000), "too deep"),
        (nested("|| ", "", 60_000), "too deep"),
        (nested("if true {", "}", 20_000), "too deep"),
        (format!("fn on_firing(alert, params) {{ {} }}", "if true {} else ".repeat(10_000) + "{}"), "too deep"),
        (format!("fn on_firing(alert, params) {{ let x = 1{}; x }}", ".a".repeat(100_000)), "too deep"),
        (format!("fn on_firing(alert, params) {{ let x = 1{}; x }}", " + 1".repeat(60_000)), "too deep"),
        (" ".repeat(300_000), "the largest allowed has 256 KiB"),
        ((0..2_000).map(|at| format!("fn f{at}() {{}}\n")).collect(), "functions"),
    ] {
        let errors = compile(main.clone()).err().unwrap_or_else(|| panic!("compiles: {}…", &main[..60]));
        assert!(errors.contains(says), "{}…: {errors}", &main[..60]);
    }
}

#[test]
fn defaults_and_modules_are_held_by_the_same_limits() {
    for (main, says) in [
        ("fn defaults() { loop {} } fn on_firing(alert, params) {}", "operations"),
        ("fn defaults() { now() } fn on_firing(alert, params) {}", "does nothing"),
        ("fn defaults() { #{ a: || 1 } } fn on_firing(alert, params) {}", "a function"),
        ("fn defaults() { [1] } fn on_firing(alert, params) {}", "an array, expected a map"),
    ] {
        let errors = compile(main.to_string()).err().unwrap_or_else(|| panic!("compiles: {main}"));
        assert!(errors.contains(says), "{main}: {errors}");
    }
    let sources = Sources {
        name: "hostile".into(),
        main: "import \"lib/a\" as a; fn on_firing(alert, params) {}".into(),
        modules: [("lib/a.rhai".to_string(), Arc::from("fn f(x) { f(x) } const A = f(1);"))].into(),
    };
    let errors = Program::compile(Arc::new(sources)).err().expect("does not compile");
    assert!(errors[0].to_string().contains("recursion"), "{}", errors[0]);
}
