//! `requestState`: what a client carries back to us, sealed.
//!
//! The state is attacker-controlled (2026-07-28, basic/patterns/mrtr). It is encrypted and authenticated with a key
//! that lives as long as the process, and bound to the mount, the caller, the call and its arguments: a state that
//! was changed, belongs to somebody else, or is used for another call opens no more than one that was made up.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// Seals and opens states; one per process.
pub struct Sealer(RandomizedNonceKey);

/// What is sealed. The binding is authenticated beside it and not repeated inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The parked call, or 0.
    pub call: u64,
    /// The round of questions that this state belongs to.
    pub round: u32,
    /// The upstream's own state, where it has one, as JSON.
    pub inner: Option<String>,
    expires: u64,
}

/// What a state is good for.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    pub mount: &'a str,
    pub principal: &'a str,
    pub method: &'a str,
    /// The name or URI, and the arguments, as they were written.
    pub target: &'a str,
    pub arguments: &'a str,
}

/// A state that does not open. Why is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown or expired requestState")]
pub struct Sealed;

impl Sealer {
    pub fn new() -> Option<Sealer> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).ok()?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).ok().map(Sealer)
    }

    /// Seals a state that may be carried about for `age`.
    pub fn seal(
        &self,
        call: u64,
        round: u32,
        inner: Option<String>,
        age: Duration,
        binding: Binding,
    ) -> Option<String> {
        let expires = now() + age.as_secs();
        let mut bytes = serde_json::to_vec(&State { call, round, inner, expires }).ok()?;
        let nonce = self.0.seal_in_place_append_tag(Aad::from(binding.digest()), &mut bytes).ok()?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut bytes);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    pub fn open(&self, text: &str, binding: Binding) -> Result<State, Sealed> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Sealed)?;
        if bytes.len() < NONCE_LEN {
            return Err(Sealed);
        }
        let mut rest = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| Sealed)?;
        let plain = self.0.open_in_place(nonce, Aad::from(binding.digest()), &mut rest).map_err(|_| Sealed)?;
        let state: State = serde_json::from_slice(plain).map_err(|_| Sealed)?;
        if state.expires < now() { Err(Sealed) } else { Ok(state) }
    }
}

impl Binding<'_> {
    fn digest(&self) -> Vec<u8> {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [self.mount, self.principal, self.method, self.target, self.arguments] {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.finish().as_ref().to_vec()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: Binding =
        Binding { mount: "a", principal: "p", method: "tools/call", target: "t", arguments: "{\"x\":1}" };

    #[test]
    fn p40_a_state_opens_for_its_own_call_only() {
        let sealer = Sealer::new().unwrap();
        let sealed = sealer.seal(7, 2, Some("inner".into()), Duration::from_secs(60), BINDING).unwrap();
        let opened = sealer.open(&sealed, BINDING).unwrap();
        assert_eq!((opened.call, opened.round, opened.inner.as_deref()), (7, 2, Some("inner")));
        let others = [
            Binding { mount: "b", ..BINDING },
            Binding { principal: "q", ..BINDING },
            Binding { method: "prompts/get", ..BINDING },
            Binding { target: "u", ..BINDING },
            Binding { arguments: "{\"x\":2}", ..BINDING },
        ];
        for other in others {
            assert_eq!(sealer.open(&sealed, other), Err(Sealed), "{other:?}");
        }
        assert_eq!(Sealer::new().unwrap().open(&sealed, BINDING), Err(Sealed), "another process");
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(sealer.open(&String::from_utf8(bytes).unwrap(), BINDING).is_err());
        }
        for text in ["", "x", "!!!!", &sealed[1..]] {
            assert_eq!(sealer.open(text, BINDING), Err(Sealed));
        }
    }

    #[test]
    fn p40_an_expired_state_does_not_open() {
        let sealer = Sealer::new().unwrap();
        let state = State { call: 1, round: 1, inner: None, expires: now() - 1 };
        let mut bytes = serde_json::to_vec(&state).unwrap();
        let nonce = sealer.0.seal_in_place_append_tag(Aad::from(BINDING.digest()), &mut bytes).unwrap();
        let text = URL_SAFE_NO_PAD.encode([nonce.as_ref(), bytes.as_slice()].concat());
        assert_eq!(sealer.open(&text, BINDING), Err(Sealed));
    }
}
