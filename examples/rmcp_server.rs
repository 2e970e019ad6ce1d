//! An MCP server on stdio that the official Rust SDK makes: a peer of the hub that shares no code with it.
//!
//! `cargo run --example rmcp_server`; as an upstream: `command = "target/debug/examples/rmcp_server"`.

use rmcp::{
    ErrorData, Peer, RoleServer, ServerHandler, ServiceExt,
    handler::server::wrapper::Parameters,
    model::{ProgressNotificationParam, RequestMetaObject, ServerCapabilities, ServerConfig},
    schemars, tool, tool_handler, tool_router,
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Sum {
    /// The first number.
    a: i64,
    /// The second number.
    b: i64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Steps {
    /// How many times to report progress.
    steps: u32,
}

/// The server; it keeps nothing.
#[derive(Clone)]
struct Example;

#[tool_router]
impl Example {
    #[tool(description = "Adds two numbers.")]
    fn sum(&self, Parameters(Sum { a, b }): Parameters<Sum>) -> String {
        (a + b).to_string()
    }

    #[tool(description = "Reports progress as often as it is told.")]
    async fn steps(
        &self,
        Parameters(Steps { steps }): Parameters<Steps>,
        meta: RequestMetaObject,
        client: Peer<RoleServer>,
    ) -> Result<String, ErrorData> {
        let Some(token) = meta.get_progress_token() else { return Ok("nobody asked for progress".into()) };
        for step in 1..=steps {
            let progress = ProgressNotificationParam::new(token.clone(), step.into()).with_total(steps.into());
            client
                .notify_progress(progress)
                .await
                .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        }
        Ok(format!("{steps} steps"))
    }
}

#[tool_handler]
impl ServerHandler for Example {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stdio = (tokio::io::stdin(), tokio::io::stdout());
    Example.serve(stdio).await?.waiting().await?;
    Ok(())
}
