//! Work for strangers, a bounded number at once: the oldest gives way. So what stands still keeps nobody out, and who does
//! as he should has aged less than those.

use std::collections::BTreeMap;
use tokio::task::{AbortHandle, JoinSet};

/// What is done for some of them now.
#[derive(Default)]
pub struct ByAge {
    tasks: JoinSet<u64>,
    by_age: BTreeMap<u64, AbortHandle>,
    next: u64,
}

impl ByAge {
    /// Begins one more. The oldest give way to it where there would be more than `most`.
    pub fn begin(&mut self, most: usize, work: impl Future<Output = ()> + Send + 'static) {
        while self.by_age.len() >= most {
            self.drop_oldest();
        }
        let number = self.next;
        self.next += 1;
        let task = self.tasks.spawn(async move {
            work.await;
            number
        });
        self.by_age.insert(number, task);
    }

    /// Ends the oldest.
    pub fn drop_oldest(&mut self) {
        if let Some((_, oldest)) = self.by_age.pop_first() {
            oldest.abort();
        }
    }

    /// Forgets one that has ended. Never completes while there is none.
    pub async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(number)) => _ = self.by_age.remove(&number),
            // Dropped by us, and forgotten then; or panicked, and dropped when it is the oldest.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}
