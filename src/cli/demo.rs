//! `runbookd demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {}
pub async fn run(_: DemoArgs) -> anyhow::Result<std::process::ExitCode> {
    unimplemented!()
}
