use super::*;

fn compile(main: &str, modules: &[(&str, &str)]) -> Result<(Program, Vec<Diagnostic>), Vec<Diagnostic>> {
    let modules = modules.iter().map(|(path, text)| (path.to_string(), Arc::from(*text))).collect();
    Program::compile(Arc::new(Sources { name: "test".into(), main: main.into(), modules }))
}

/// The findings, one a line, as `code file:line:column+length message | help`.
fn found(main: &str, modules: &[(&str, &str)]) -> Vec<String> {
    let diagnostics = match compile(main, modules) {
        Ok((_, warnings)) => warnings,
        Err(errors) => errors,
    };
    for it in &diagnostics {
        assert!(CODES.iter().any(|(code, _)| *code == it.code), "{} is listed", it.code);
        if it.line > 0 && it.file == "test.rhai" {
            assert_eq!(it.source, main.lines().nth(it.line - 1).unwrap_or_default());
        }
    }
    let line = |it: &Diagnostic| {
        let help = it.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{} {}:{}:{}+{} {}{help}", it.code, it.file, it.line, it.column, it.length, it.message)
    };
    diagnostics.iter().map(line).collect()
}

/// One finding in a runbook whose handler has this body, on its second line.
fn check(body: &str, expect: &str) {
    let main = format!("//! Test.\nfn on_firing(alert, params) {{ {body} }}");
    assert_eq!(found(&main, &[]), if expect.is_empty() { vec![] } else { vec![expect.to_string()] }, "{body}");
}

#[test]
fn syntax_errors_say_what_and_where() {
    check("let x = ;", "runbook_syntax test.rhai:2:39+1 unexpected ';'");
    check("alrt.labels", "runbook_syntax test.rhai:2:31+4 there is no variable alrt here");
    check("let match = 1;", "runbook_syntax test.rhai:2:35+5 `match` is a reserved word | give it another name");
    check("eval(\"1\")", "runbook_syntax test.rhai:2:31+4 eval is not allowed in runbooks");
    check(
        "services::of_alert(alert)",
        "runbook_syntax test.rhai:2:31+8 there is no module services here | import it at the top of the file: `import \"lib/services\" as services;`",
    );
    let main = "//! Test.\nconst MOST = 3;\nfn on_firing(alert, params) { MOST }";
    assert_eq!(
        found(main, &[]),
        [
            "runbook_syntax test.rhai:3:31+4 there is no variable MOST here | a function reads a constant from the top of the file as `global::MOST`"
        ]
    );
    let main = "//! Test.\nfn on_firing(alert, params) {";
    assert_eq!(found(main, &[]), ["runbook_syntax test.rhai:2:30+1 expecting '}' to terminate this block"]);
}

#[test]
fn calls_are_checked() {
    check(
        "scale(\"web\", 3); wait_healthy(\"web\"); wait_healthy(\"web\", \"1m\"); services(); services(#{a: \"1\"});",
        "",
    );
    check("let f = |x| x + 1; [1, 2].map(|x| f.call(x)).filter(|x| x > 1).len(); min(1, 2); \"a\".to_upper();", "");
    check("let m = #{ run: |x| x }; m.run(1); m.keys().len()", "");
    check("print(1); debug(2); type_of(3); let a = [1]; a.push(2); a.contains(1); 1 in a; `${a}`; a[0..1]", "");
    check(
        "let double = |x| 2 * x; double(1)",
        "runbook_unknown_function test.rhai:2:55+6 there is no function double | a closure in a variable is called as `double.call(…)`",
    );
    check(
        "scal(\"web\", 3);",
        "runbook_unknown_function test.rhai:2:31+4 there is no function scal | did you mean `scale`?",
    );
    check(
        "let a = [1]; a.psh(2);",
        "runbook_unknown_function test.rhai:2:46+3 there is no function psh | did you mean `push`?",
    );
    check(
        "scale(\"web\");",
        "runbook_arguments test.rhai:2:31+5 scale takes 2 arguments, this call has 1 | it is scale(service, replicas)",
    );
    check(
        "wait_healthy();",
        "runbook_arguments test.rhai:2:31+12 wait_healthy takes 1 to 2 arguments, this call has 0 | it is wait_healthy(service) · wait_healthy(service, timeout)",
    );
    check("\"a\".to_upper(1);", "runbook_arguments test.rhai:2:35+8 to_upper takes 0 arguments, this call has 1");
    let main = "//! Test.\nfn add(a, b) { a + b }\nfn on_firing(alert, params) { add(1) + 1.add(2) }";
    assert_eq!(found(main, &[]), ["runbook_arguments test.rhai:3:31+3 add takes 2 arguments, this call has 1"]);
}

#[test]
fn durations_are_checked() {
    check("sleep(\"90s\"); wait_until(\"1h30m\", || true); let t = params.t; sleep(t);", "");
    check(
        "sleep(\"soon\");",
        "runbook_duration test.rhai:2:37+6 \"soon\" is no duration; expected for example 90s, 5m or 1h30m",
    );
    check(
        "wait_healthy(\"web\", 60);",
        "runbook_duration test.rhai:2:51+2 60 is no duration; expected text with a unit, for example \"60s\"",
    );
}

#[test]
fn a_wait_until_closure_is_checked() {
    check("let n = 2; wait_until(\"1m\", || service(\"a\").running > n);", "");
    check("wait_until(\"1m\", || { let n = 0; n += 1; n > 0 });", "");
    check(
        "wait_until(\"1m\", || restart(\"web\"));",
        "runbook_effect_in_wait test.rhai:2:51+7 a wait_until closure may only read, and restart does more | the closure is run again and again: look in it, and act after the wait",
    );
    let lost = |place: &str, name: &str| {
        format!(
            "runbook_write_in_wait test.rhai:{place}+{} what a wait_until closure writes to {name} is lost | return the value: wait_until returns what the closure returned",
            name.len()
        )
    };
    check("let n = 0; wait_until(\"1m\", || { n += 1; n > 3 });", &lost("2:64", "n"));
    check("let m = #{a: 0}; wait_until(\"1m\", || { m.a = 1; true });", &lost("2:70", "m"));
}

#[test]
fn verify_may_only_read() {
    let with = |verify: &str| found(&format!("//! Test.\nfn on_firing(a, p) {{ restart(\"web\"); }}\n{verify}"), &[]);
    let more = |place: &str, name: &str| {
        let help = "it is asked again and again until the deadline: look in it, and act in on_firing";
        format!(
            "runbook_effect_in_verify test.rhai:{place}+{} verify may only read, and {name} does more | {help}",
            name.len()
        )
    };
    assert_eq!(with("fn verify(a, p) { let n = service(\"web\").running; n > 1 }"), [""; 0]);
    assert_eq!(with("fn verify(a, p) { scale(\"web\", 2); true }"), [more("3:19", "scale")]);
    assert_eq!(with("fn verify(a, p) { wait_healthy(\"web\"); true }"), [more("3:19", "wait_healthy")]);
    assert_eq!(
        with("fn f() { g() }\nfn g() { f(); log(\"x\"); true }\nfn verify(a, p) { f() }"),
        [more("4:15", "log")]
    );
    assert_eq!(
        with("fn verify(a, p) { [1].filter(|x| { restart(\"web\"); true }).len() > 0 }"),
        [more("3:36", "restart")]
    );
    // What others call is no matter of verify.
    assert_eq!(with("fn f() { restart(\"web\") }\nfn verify(a, p) { true }"), [""; 0]);
}

#[test]
fn outside_of_functions_there_are_constants_and_imports() {
    let head = |top: &str| found(&format!("//! Test.\n{top}\nfn on_firing(alert, params) {{ }}"), &[]);
    assert_eq!(head("const A = 1 + 2; const B = [1, #{a: \"b\"}];"), [""; 0]);
    assert_eq!(
        head("let a = 1;"),
        [
            "runbook_top_level test.rhai:2:1+1 no function sees the variable a | make it a constant, `const a = …;`, and read it as `global::a`"
        ]
    );
    assert_eq!(
        head("scale(\"web\", 1);"),
        [
            "runbook_top_level test.rhai:2:1+1 a statement outside of a function: a runbook is functions, constants and imports | move it into a handler, such as `fn on_firing(alert, params) { … }`"
        ]
    );
    assert_eq!(
        head("const A = now();"),
        ["runbook_top_level test.rhai:2:11+3 now cannot be called in a constant: what declares a runbook does nothing"]
    );
}

#[test]
fn handlers_and_defaults_are_checked() {
    for (main, expect) in [
        (
            "//! Test.\nfn helper() { 1 }",
            "runbook_no_handler test.rhai:0:0+1 the runbook has no handler, so nothing would call it | write `fn on_firing(alert, params) { … }`",
        ),
        (
            "//! Test.\nfn on_firing(alert) { }",
            "runbook_handler_arguments test.rhai:2:4+9 on_firing takes 2 arguments, this one has 1 | write `fn on_firing(alert, params)`",
        ),
        (
            "//! Test.\nfn on_event(event) { }",
            "runbook_handler_arguments test.rhai:2:4+8 on_event takes 2 arguments, this one has 1 | write `fn on_event(event, params)`",
        ),
        (
            "//! Test.\nfn verify(a, p) { true }",
            "runbook_no_handler test.rhai:0:0+1 the runbook has no handler, so nothing would call it | write `fn on_firing(alert, params) { … }`",
        ),
        (
            "//! Test.\nfn on_firing(a, p) { }\nfn verify() { true }",
            "runbook_handler_arguments test.rhai:3:4+6 verify takes 2 arguments, this one has 0 | write `fn verify(alert, params)`",
        ),
        (
            "//! Test.\nfn on_firing(a, p) { }\nfn defaults(x) { #{} }",
            "runbook_handler_arguments test.rhai:3:4+8 defaults() takes no arguments",
        ),
        (
            "//! Test.\nfn on_firing(a, p) { }\nfn defaults() { 7 }",
            "runbook_defaults test.rhai:3:4+8 defaults() returns an integer, expected a map | it declares the parameters with their values: `fn defaults() { #{ step: 1, ceiling: 10 } }`",
        ),
        (
            "//! Test.\nfn on_firing(a, p) { }\nfn defaults() { let x = #{}; x.y }",
            "runbook_defaults test.rhai:3:32+1 defaults() fails: there is no \"y\" here; ask first, as in `if \"y\" in labels`, or use `labels.get(\"y\")`, which is () then",
        ),
        (
            "//! Test.\nfn on_firing(a, p) { }\nfn scale(a, b) { }",
            "runbook_shadows_primitive test.rhai:3:4+5 scale is a primitive: a function of that name would hide it | give the function another name",
        ),
        (
            "fn on_firing(a, p) { }",
            "runbook_no_doc test.rhai:0:0+1 nothing says what this runbook does | begin the file with lines such as `//! Restart a service whose tasks keep failing.`",
        ),
    ] {
        assert_eq!(found(main, &[]), [expect], "{main}");
    }
}

#[test]
fn imports_are_checked() {
    let main = |import: &str| format!("//! Test.\n{import}\nfn on_firing(alert, params) {{ a::f(1) }}");
    let help = "modules are in runbooks/lib/: `import \"lib/services\" as services;` reads lib/services.rhai";
    let good = [("lib/a.rhai", "fn f(x) { x }\nprivate fn g(x) { x }")];
    assert_eq!(found(&main("import \"lib/a\" as a;"), &good), [""; 0]);
    for path in ["/etc/passwd", "../a", "lib/../../a", "other"] {
        let expect = format!("runbook_import test.rhai:2:8+{} there is no module {path:?} | {help}", path.len() + 2);
        assert_eq!(found(&main(&format!("import {path:?} as a;")), &good), [expect]);
    }
    assert_eq!(
        found(&main("import \"lib/aa\" as a;"), &good),
        ["runbook_import test.rhai:2:8+8 there is no module \"lib/aa\" | did you mean \"lib/a\"?"]
    );
    assert_eq!(
        found(&main("import \"lib/\" + \"a\" as a;"), &good),
        [
            "runbook_import test.rhai:2:15+1 an import must name its module in plain text | as in `import \"lib/services\" as services;`"
        ]
    );
    let circle = [("lib/a.rhai", "import \"lib/b\" as b;"), ("lib/b.rhai", "import \"lib/a\" as a;")];
    assert_eq!(
        found(&main("import \"lib/a\" as a;"), &circle),
        ["runbook_import lib/b.rhai:1:8+7 modules import each other in a circle: lib/a → lib/b → lib/a"]
    );
    assert_eq!(
        found(&main("import \"lib/a\" as a;"), &[("lib/a.rhai", "fn f(x) { scal(x, 1) }")]),
        ["runbook_unknown_function lib/a.rhai:1:11+4 there is no function scal | did you mean `scale`?"]
    );
    assert_eq!(
        found(&main("import \"lib/a\" as a;"), &[("lib/a.rhai", "fn ff(x) { x }")]),
        ["runbook_unknown_function test.rhai:3:34+1 there is no function f in a | did you mean `a::ff`?"]
    );
    assert_eq!(
        found(&main("import \"lib/a\" as a;"), &[("lib/a.rhai", "fn f(x, y) { x }")]),
        ["runbook_arguments test.rhai:3:34+1 a::f takes 2 arguments, this call has 1"]
    );
}

#[test]
fn a_program_keeps_what_it_reaches_and_is_known_by_its_content() {
    let main = "//! One.\n//! Two.\nimport \"lib/a\" as a;\nfn defaults() { #{ step: 1, slow: 0.5, names: [\"x\"] } }\nfn on_resolved(alert, params) { }\nfn on_firing(alert, params) { }";
    let a = ("lib/a.rhai", "import \"lib/b\" as b;");
    let (program, warnings) = compile(main, &[a, ("lib/b.rhai", ""), ("lib/c.rhai", "fn (")])
        .map_err(|it| it[0].to_string())
        .expect("compiles");
    assert!(warnings.is_empty());
    assert_eq!(program.doc, "One.\nTwo.");
    assert_eq!(program.handlers, [Handler::OnFiring, Handler::OnResolved]);
    assert_eq!(serde_json::to_string(&program.defaults).expect("JSON"), r#"{"names":["x"],"slow":0.5,"step":1}"#);
    assert_eq!(program.sources.modules.keys().collect::<Vec<_>>(), ["lib/a.rhai", "lib/b.rhai"]);
    assert_eq!(program.hash.0.len(), 64);
    let hash = |main: &str, modules: &[(&str, &str)]| {
        compile(main, modules).map_err(|it| it[0].to_string()).expect("compiles").0.hash
    };
    // What is pinned compiles to the same program again.
    let again = Program::compile(program.sources.clone()).map_err(|it| it[0].to_string()).expect("compiles").0;
    assert_eq!(again.hash, program.hash);
    assert_eq!(hash(main, &[a, ("lib/b.rhai", "")]), program.hash);
    assert_ne!(hash(main, &[a, ("lib/b.rhai", "// changed")]), program.hash);
    assert_ne!(hash(&format!("{main}\n"), &[a, ("lib/b.rhai", "")]), program.hash);
}
