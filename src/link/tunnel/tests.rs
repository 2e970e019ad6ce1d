//! What takes too long to wait for outside.

use tokio::{net::TcpListener, time::Instant};

use super::*;

#[tokio::test(start_paused = true)]
async fn s4_t1_a_server_that_says_nothing_is_left_after_30_seconds_and_asked_again_later_and_later() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Url::parse(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let (state, began) = (watch::Sender::default(), Instant::now());
    let mut changes = state.subscribe();
    let spec = TunnelSpec { server, name: None };
    let look = async {
        let mut times = Vec::new();
        while times.len() < 9 {
            changes.changed().await.unwrap();
            if let State::Opening(Some(_)) = &*changes.borrow_and_update() {
                times.push(began.elapsed().as_secs());
            }
        }
        times
    };
    let times = tokio::select! {
        () = keep(spec, &state, |_, _| async {}) => panic!("it gave up"),
        times = look => times,
    };
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!((times[0], waits), (30, vec![31, 32, 34, 38, 46, 60, 60, 60]));
}
