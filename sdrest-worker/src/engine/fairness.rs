//! Whose turn it is. Each share (one owner, as an opaque number) has an account of what was done for it, in
//! rows × pixels; the next turn is the cheapest share's. After start-time fair queueing (Goyal, Vin, Cheng
//! 1996): who comes back after a pause begins at the level of those who are served now, and so can neither
//! save up turns nor be made to pay for having been alone.

use sdrest_proto::generation::GenerationRequest;
use std::collections::HashMap;

/// When there are more accounts than this, those below the level go, which say nothing; if that is not
/// enough, all begin anew.
const SWEEP: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Accounts {
    charged: HashMap<u64, u64>,
    /// What the share that was served last had been charged by then.
    level: u64,
}

impl Accounts {
    /// What a share counts as having had.
    pub fn of(&self, share: u64) -> u64 {
        self.charged.get(&share).copied().unwrap_or(0).max(self.level)
    }

    /// A share is served for `cost`.
    pub fn charge(&mut self, share: u64, cost: u64) {
        let before = self.of(share);
        self.level = before;
        self.charged.insert(share, before.saturating_add(cost));
        if self.charged.len() > SWEEP {
            let level = self.level;
            self.charged.retain(|_, charged| *charged > level);
            if self.charged.len() > SWEEP {
                self.charged.clear();
            }
        }
    }
}

/// One step of a request, in rows × pixels: a guided picture has two rows.
pub fn step_cost(request: &GenerationRequest) -> u64 {
    let rows =
        u64::from(request.num_images) * if request.guidance_scale.is_guided() { 2 } else { 1 };
    rows * pixels(request)
}

/// Decoding one picture; about a guided step's worth.
pub fn decode_cost(request: &GenerationRequest) -> u64 {
    2 * pixels(request)
}

fn pixels(request: &GenerationRequest) -> u64 {
    u64::from(request.width) * u64::from(request.height)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves the cheapest of `shares` `turns` times; answers how often each was.
    fn serve(accounts: &mut Accounts, shares: &[(u64, u64)], turns: usize) -> Vec<usize> {
        let mut served = vec![0; shares.len()];
        for _ in 0..turns {
            let next = (0..shares.len()).min_by_key(|i| accounts.of(shares[*i].0)).unwrap();
            accounts.charge(shares[next].0, shares[next].1);
            served[next] += 1;
        }
        served
    }

    #[test]
    fn turns_are_inverse_to_their_cost() {
        let served = serve(&mut Accounts::default(), &[(1, 10), (2, 40)], 100);
        assert_eq!(served, [80, 20]);
    }

    #[test]
    fn a_newcomer_neither_starves_the_others_nor_waits_for_their_past() {
        let mut accounts = Accounts::default();
        serve(&mut accounts, &[(1, 10)], 1000);
        let served = serve(&mut accounts, &[(1, 10), (2, 10)], 10);
        assert_eq!(served, [5, 5]);
    }

    #[test]
    fn many_shares_are_not_remembered_for_ever() {
        let mut accounts = Accounts::default();
        (0..100_000).for_each(|share| accounts.charge(share, 1));
        assert!(accounts.charged.len() <= SWEEP + 1, "{}", accounts.charged.len());
    }
}
