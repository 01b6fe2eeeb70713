//! A delivery that has begun is finished, even if nobody waits for it any more. hyper drops a handler when its caller
//! hangs up; here the rest of the work then becomes a task of its own. While the caller stays there is none.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A future that runs on when it is dropped.
pub(super) struct Detach<T: 'static> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    tracker: TaskTracker,
}

impl<T: 'static> Detach<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static, tracker: &TaskTracker) -> Self {
        Self { work: Some(Box::pin(work)), tracker: tracker.clone() }
    }
}

impl<T: 'static> Future for Detach<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Unwrap safety: it is taken only here, once it is done, and a future is not polled after that.
        let mut work = self.work.take().expect("polled after completion");
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: 'static> Drop for Detach<T> {
    fn drop(&mut self) {
        // Without a runtime there is nothing left to finish it; what it holds is released.
        let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) else { return };
        self.tracker.spawn_on(
            async move {
                work.await;
            },
            &runtime,
        );
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_its_waiter_is_gone() {
        let tracker = TaskTracker::new();
        let (go, gone) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let mut detach = Box::pin(Detach::new(
            async move {
                gone.await.ok();
                done.send(()).ok();
            },
            &tracker,
        ));
        assert!(futures_poll(detach.as_mut()).is_pending());
        drop(detach);
        go.send(()).unwrap();
        finished.await.expect("it was finished");
        tracker.close();
        tracker.wait().await;
    }

    #[tokio::test]
    async fn a_panic_inside_is_not_run_again() {
        let tracker = TaskTracker::new();
        let task = tokio::spawn(Detach::<()>::new(async { panic!("test") }, &tracker));
        assert!(task.await.unwrap_err().is_panic());
        assert!(tracker.is_empty());
    }

    fn futures_poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(std::task::Waker::noop()))
    }
}
