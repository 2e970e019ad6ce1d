//! What a reload would do, told without doing it: `hubward check --diff`.

use super::*;

/// Reads the file as a reload would, or another one in its place, and changes nothing.
#[derive(Message)]
#[rtype(result = "Result<Plan, ReloadError>")]
pub struct Forecast(pub Option<PathBuf>);

impl Handler<Forecast> for Hub {
    type Result = ResponseActFuture<Self, Result<Plan, ReloadError>>;

    fn handle(&mut self, Forecast(other): Forecast, _: &mut Self::Context) -> Self::Result {
        let source = self.source.clone();
        let read = async move {
            let source = source?;
            let read = move || config::read(other.as_ref().unwrap_or(&source.path)).map(|loaded| (loaded, source));
            tokio::task::spawn_blocking(read).await.ok()
        };
        Box::pin(read.into_actor(self).map(|read, this, _| match read {
            None => Err(ReloadError::NoFile),
            Some(Ok((Loaded { mut config, .. }, source))) => {
                (source.overrides)(&mut config);
                Ok(plan(&this.config, &config))
            }
            Some(Err(rejected)) => Err(ReloadError::Rejected(rejected.to_string())),
        }))
    }
}
