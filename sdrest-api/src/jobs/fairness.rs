//! What a job costs and who is served next: the owner who has been served least, first come first served
//! within one owner. Cost is rows × pixels × steps, so one big job counts for as much as many small ones.
//! An owner who comes back after a rest starts level with the least served of those who wait, so that
//! idling saves up nothing.

use sdrest_proto::{generation::GenerationRequest, id::JobId, identity::Subject};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

/// Rows × pixels × steps of one job. A guided picture takes two rows.
pub fn cost(request: &GenerationRequest) -> u64 {
    let rows =
        u64::from(request.num_images) * if request.guidance_scale.is_guided() { 2 } else { 1 };
    rows * u64::from(request.width)
        * u64::from(request.height)
        * u64::from(request.num_inference_steps)
}

/// A waiting job as the order is made from.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub job: JobId,
    pub owner: Subject,
    /// What that owner has been charged so far.
    pub served: u64,
    pub cost: u64,
    /// Order of acceptance.
    pub arrival: i64,
    /// Whether it was charged by an earlier attempt.
    pub charged: bool,
}

/// A waiting job in its turn.
#[derive(Clone, Debug)]
pub struct Turn {
    pub job: JobId,
    pub owner: Subject,
    /// Cost of all that goes before it.
    pub ahead: u64,
}

/// The order in which the store would hand out `waiting`.
pub fn order(mut waiting: Vec<Waiting>) -> Vec<Turn> {
    waiting.sort_by_key(|job| job.arrival);
    let mut owners: HashMap<Subject, (u64, VecDeque<Waiting>)> = HashMap::new();
    for job in waiting {
        owners
            .entry(job.owner.clone())
            .or_insert_with(|| (job.served, VecDeque::new()))
            .1
            .push_back(job);
    }
    // The least served owner first; among equals, whose next job came first.
    let mut heads: BinaryHeap<Reverse<(u64, i64, Subject)>> = owners
        .iter()
        .filter_map(|(owner, (served, jobs))| {
            jobs.front().map(|job| Reverse((*served, job.arrival, owner.clone())))
        })
        .collect();
    let (mut ordered, mut ahead) = (Vec::new(), 0_u64);
    while let Some(Reverse((_, _, owner))) = heads.pop() {
        let Some((served, jobs)) = owners.get_mut(&owner) else { continue };
        let Some(job) = jobs.pop_front() else { continue };
        if !job.charged {
            *served = served.saturating_add(job.cost);
        }
        if let Some(next) = jobs.front() {
            heads.push(Reverse((*served, next.arrival, owner)));
        }
        ordered.push(Turn { job: job.job, owner: job.owner, ahead });
        ahead = ahead.saturating_add(job.cost);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(owner: u32, arrival: i64, cost: u64) -> Waiting {
        Waiting {
            job: JobId::random(),
            owner: Subject::unix(owner, 1),
            served: 0,
            cost,
            arrival,
            charged: false,
        }
    }

    #[test]
    fn a_crowd_of_one_owner_does_not_hold_up_another() {
        let jobs: Vec<Waiting> =
            (0..4).map(|i| waiting(1, i, 10)).chain((4..6).map(|i| waiting(2, i, 10))).collect();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.job).collect();
        let order = order(jobs);
        let expected = [0, 4, 1, 5, 2, 3].map(|i| ids[i]);
        assert_eq!(order.iter().map(|turn| turn.job).collect::<Vec<_>>(), expected);
        assert_eq!(
            order.iter().map(|turn| turn.ahead).collect::<Vec<_>>(),
            [0, 10, 20, 30, 40, 50]
        );
    }

    #[test]
    fn one_big_job_counts_for_many_small_ones() {
        let jobs: Vec<Waiting> =
            (0..2).map(|i| waiting(1, i, 30)).chain((2..6).map(|i| waiting(2, i, 10))).collect();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.job).collect();
        let got: Vec<JobId> = order(jobs).into_iter().map(|turn| turn.job).collect();
        assert_eq!(got, [0, 2, 3, 4, 1, 5].map(|i| ids[i]));
    }
}
