//! Shares of something that there is only so much of: one address gets only so much of it at a time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::failures::counted_address;

/// What is shared out. Who comes when nothing is left waits, in order.
#[derive(Debug)]
pub struct Shares {
    all: Arc<Semaphore>,
    each: u32,
    here: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// A share; it is given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    // Last: its address is forgotten when nothing is left of it.
    _place: Place,
}

/// An address that has a share or waits for one.
#[derive(Debug)]
struct Place {
    shares: Arc<Shares>,
    address: IpAddr,
    own: Arc<Semaphore>,
}

impl Shares {
    /// `all` of it, of which one address gets at most `each`.
    pub fn new(all: u32, each: u32) -> Arc<Self> {
        let (all, each) = (all.max(1), each.clamp(1, all.max(1)));
        Arc::new(Self { all: Arc::new(Semaphore::new(all as usize)), each, here: Mutex::default() })
    }

    fn place(self: &Arc<Self>, address: IpAddr) -> Place {
        let address = counted_address(address);
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let own = here.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.each as usize)));
        Place { shares: Arc::clone(self), address, own: Arc::clone(own) }
    }

    /// A share of `amount`, at most what one address gets; waits until it is there. The address waits for its own part first,
    /// so that its queue stands before nobody else. `None` never comes while the shares are there.
    pub async fn take(self: &Arc<Self>, address: IpAddr, amount: u32) -> Option<Share> {
        let place = self.place(address);
        let amount = amount.clamp(1, self.each);
        let own = Arc::clone(&place.own).acquire_many_owned(amount).await.ok()?;
        let all = Arc::clone(&self.all).acquire_many_owned(amount).await.ok()?;
        Some(Share { _own: own, _all: all, _place: place })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut here = self.shares.here.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one.
        if Arc::strong_count(&self.own) <= 2 {
            here.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::{Share, Shares};

    async fn now(taking: impl Future<Output = Option<Share>>) -> Option<Share> {
        tokio::time::timeout(Duration::from_millis(20), taking).await.ok().flatten()
    }

    #[tokio::test]
    async fn an_address_gets_its_part_and_leaves_the_rest_to_others() {
        let shares = Shares::new(10, 4);
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let held = [now(shares.take(one, 3)).await.unwrap(), now(shares.take(one, 1)).await.unwrap()];
        assert!(now(shares.take(one, 1)).await.is_none(), "it has all it may have");
        let others = now(shares.take(other, 99)).await.unwrap();
        let third = now(shares.take("2001:db8::1".parse().unwrap(), 3)).await;
        assert!(third.is_none(), "two are left, and three are wanted");
        drop(others);
        assert!(now(shares.take("2001:db8::1".parse().unwrap(), 3)).await.is_some());
        drop(held);
        assert!(now(shares.take(one, 4)).await.is_some());
        assert!(shares.here.lock().unwrap().is_empty(), "nobody is remembered who has nothing");
    }
}
