//! What `connect` does in place of connecting, by flags.
//!
//! Several at once are done in this order: the registration, the token, a request, lists, a call, a test. `--reset-auth`
//! goes before any of them, and before connecting.

use std::sync::Arc;

use crate::{
    auth::{Credentials, OAuth},
    cli::{
        LOGIN_NEEDED, OK, USAGE,
        ask::{self, Raw, Stop, Talk, Target, Wish},
        auth::{self, Deed},
        complain, fail, say,
    },
    link::remote::header_map,
    run,
};

#[derive(clap::Args, Default)]
#[command(next_help_heading = "In place of connecting")]
pub struct Deeds {
    /// Show the login that there is; log in where it is no good any more; print the token as variables of a shell
    #[arg(short = 't', long)]
    token: bool,
    /// Greet the server and say who answers
    #[arg(long)]
    test_auth: bool,
    /// Forget the login first
    #[arg(long)]
    reset_auth: bool,
    /// List the tools
    #[arg(long)]
    list_tools: bool,
    /// List the resources
    #[arg(long)]
    list_resources: bool,
    /// List the prompts
    #[arg(long)]
    list_prompts: bool,
    /// Call a tool: 'tool args', where args are a JSON object, key=value pairs, or one bare value
    #[arg(short = 'c', long, value_name = "CALL")]
    command: Option<String>,
    /// Send one JSON-RPC request
    #[arg(long, value_name = "JSON")]
    raw: Option<String>,
    /// Show what the authorization server knows of our client (RFC 7592)
    #[arg(long)]
    get_client_info: bool,
    /// Change that: FIELD=VALUE,FIELD=VALUE, with `;` between the entries of a list
    #[arg(long, value_name = "CHANGE")]
    update_client: Option<String>,
    /// Delete our client for good
    #[arg(long)]
    delete_client: bool,
    /// Do not ask before that
    #[arg(long)]
    yes: bool,
}

/// Does what the flags say; none where they say nothing, and the server is to be connected to.
pub fn run(deeds: &Deeds, target: &Target) -> Option<u8> {
    if deeds.reset_auth {
        if let Some(oauth) = oauth(target) {
            run::on_system(async move { auth::log_out(&oauth).await });
        }
        complain(format_args!("the login for {} is forgotten", target.shown));
    }
    if let Some(deed) = registration(deeds) {
        let deed = match deed {
            Ok(deed) => deed,
            Err(error) => return Some(fail(USAGE, error)),
        };
        let Some(oauth) = oauth(target) else { return Some(fail(USAGE, "there is no OAuth with these flags")) };
        return Some(run::on_system(async move { auth::manage(&oauth, deed).await }));
    }
    if deeds.token {
        return Some(token(target));
    }
    let wish = match wish(deeds)? {
        Ok(wish) => wish,
        Err(error) => return Some(fail(error.code, error.text)),
    };
    Some(ask::run(target, &Talk::new(false, false, None), wish))
}

fn oauth(target: &Target) -> Option<Arc<OAuth>> {
    match &*target.credentials {
        Credentials::OAuth(oauth) => Some(oauth.clone()),
        _ => None,
    }
}

fn registration(deeds: &Deeds) -> Option<Result<Deed, String>> {
    if deeds.get_client_info {
        return Some(Ok(Deed::Show));
    }
    if let Some(changes) = &deeds.update_client {
        let changes: Vec<String> = changes.split(',').map(|change| change.trim().to_owned()).collect();
        return Some(Deed::update(&changes, deeds.yes));
    }
    deeds.delete_client.then_some(Ok(Deed::Delete { yes: deeds.yes }))
}

fn wish(deeds: &Deeds) -> Option<Result<Wish, Stop>> {
    if let Some(request) = &deeds.raw {
        return Some(Raw::read(request).map(Wish::Raw));
    }
    let lists =
        [(deeds.list_tools, Wish::Tools), (deeds.list_resources, Wish::Resources), (deeds.list_prompts, Wish::Prompts)];
    if let Some((_, wish)) = lists.into_iter().find(|(wanted, _)| *wanted) {
        return Some(Ok(wish));
    }
    match &deeds.command {
        Some(line) => Some(Wish::call_of_line(line)),
        None => deeds.test_auth.then_some(Ok(Wish::Ping)),
    }
}

/// Shows the login, renews it where that is due, proves it, and prints it for a shell.
fn token(target: &Target) -> u8 {
    let Some(oauth) = oauth(target) else { return fail(USAGE, "there is no OAuth with these flags") };
    let headers = target.config.remote.iter().flat_map(|remote| &remote.headers);
    let headers = header_map(headers.map(|(name, value)| (name.as_str(), value.expose())));
    let lines = run::on_system(async move {
        let before = oauth.status().await;
        complain(auth::told(&before));
        // Ahead of its end it is renewed by being asked for.
        let there = oauth.token().await.ok().flatten().is_some_and(|token| token.is_alive(crate::auth::oauth::now()));
        if !there {
            let headers = headers.map_err(|error| fail(USAGE, error))?;
            if let Err(error) = oauth.login(&headers).await {
                return Err(auth::failed(error, LOGIN_NEEDED));
            }
            complain(auth::told(&oauth.status().await));
        }
        Ok(oauth.variables().await)
    });
    let lines = match lines {
        Ok(lines) => lines,
        Err(code) => return code,
    };
    let proof = ask::run(target, &Talk::default(), Wish::Greet);
    if proof == OK {
        lines.iter().for_each(|(name, value)| say(format_args!("export {name}='{}'", value.replace('\'', r"'\''"))));
    }
    proof
}
