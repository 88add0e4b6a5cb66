//! Where a run happens: on this machine by `--local`, or as an operation of a minicluster. Most tests hold in both.

use crate::cluster::Cluster;
use crate::launcher::Launcher;
use crate::leftovers;
use crate::scratch::Scratch;

/// The meshes that tests of runs go over: nodes, workers on each.
pub const MESHES: [(u32, u32); 3] = [(1, 1), (2, 2), (3, 1)];

/// Where runs of one test happen.
pub struct Place {
    /// The test's folder.
    pub scratch: Scratch,
    cluster: Option<Cluster>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Submitted,
}

/// Makes the tests named run in both places, each as a test of its own in the modules `local` and `submitted`.
#[macro_export]
macro_rules! in_both_places {
    ($($test:ident)*) => {
        mod local {
            $(#[test] fn $test() { super::$test(&$crate::Place::local()); })*
        }
        mod submitted {
            $(#[test] fn $test() { super::$test(&$crate::Place::submitted()); })*
        }
    };
}

impl Place {
    /// `--local`; the launcher starts a minicluster of its own.
    pub fn local() -> Self {
        Self { scratch: Scratch::new(), cluster: None, kind: Kind::Local }
    }

    /// `--local` with a cluster in `YT_PROXY`.
    pub fn local_with_cluster() -> Self {
        let scratch = Scratch::new();
        let cluster = Cluster::start(&scratch);
        Self { scratch, cluster: Some(cluster), kind: Kind::Local }
    }

    /// An operation of a minicluster.
    pub fn submitted() -> Self {
        Self { kind: Kind::Submitted, ..Self::local_with_cluster() }
    }

    /// An operation of a minicluster whose faults can be planned.
    pub fn submitted_with_control() -> Self {
        let scratch = Scratch::new();
        let cluster = Cluster::start_with_control(&scratch);
        Self { scratch, cluster: Some(cluster), kind: Kind::Submitted }
    }

    /// A call of the launcher for this place.
    pub fn launcher(&self) -> Launcher {
        match (self.kind, &self.cluster) {
            (Kind::Submitted, Some(cluster)) => Launcher::submit(&self.scratch, cluster),
            (_, Some(cluster)) => Launcher::local(&self.scratch).env("YT_PROXY", cluster.proxy()),
            (_, None) => Launcher::local(&self.scratch),
        }
    }

    /// The minicluster of this place.
    ///
    /// # Panics
    /// Where the launcher starts its own.
    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("this place has a cluster")
    }

    /// Whether runs are operations.
    pub fn is_submitted(&self) -> bool {
        self.kind == Kind::Submitted
    }

    /// Checks that the run has left no operation and no process, at this moment.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.assert_no_operation_runs();
            leftovers::assert_gone_but(&self.scratch, &[cluster.pid()]);
        } else {
            leftovers::assert_gone_but(&self.scratch, &[]);
        }
    }

    /// The same, for what may take a moment after the launcher has ended.
    #[track_caller]
    pub fn wait_until_nothing_left(&self) {
        let keep: Vec<i32> = self.cluster.iter().map(Cluster::pid).collect();
        leftovers::wait_until_gone_but(&self.scratch, &keep);
        if let Some(cluster) = &self.cluster {
            cluster.wait_until_no_operation_runs();
        }
    }
}
