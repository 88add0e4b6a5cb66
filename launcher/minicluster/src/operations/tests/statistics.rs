//! Custom statistics.

use super::*;

#[tokio::test]
async fn numbers_on_descriptor_5_are_summed_up_by_name_and_state() {
    for cluster in Cluster::each() {
        let command = "echo '{\"rows/read\"=7};{\"rows/read\"=-3;time={load=2u}};' >&5; \
                       [ $YT_JOB_INDEX = 0 ] && exit 1; exit 0";
        let id = cluster.start("", command, "");
        assert_eq!(cluster.wait(id).await, "completed");
        let progress = cluster.get(id)["progress"].clone();
        let summary = "{count=2;max=7;min=-3;sum=4}";
        let expected = format!(
            "{{custom={{\"rows/read\"={{\"$\"={{completed={{vanilla={summary}}};failed={{vanilla={summary}}}}}}};\
             \"time/load\"={{\"$\"={{completed={{vanilla={{count=1;max=2;min=2;sum=2}}}};\
             failed={{vanilla={{count=1;max=2;min=2;sum=2}}}}}}}}}}}}"
        );
        assert_eq!(progress["job_statistics"], yson::parse(expected.as_bytes()).unwrap());
        let tagged = value::as_list(&progress["job_statistics_v2"]["custom"]["rows/read"]).unwrap();
        let states: Vec<_> = tagged.iter().map(|item| text(&item["tags"], "job_state")).collect();
        assert_eq!(states, ["completed", "failed"]);
        assert_eq!(
            cluster.jobs(id)[0]["statistics"]["custom"]["rows/read"],
            yson::parse(summary.as_bytes()).unwrap()
        );
    }
}

#[tokio::test]
async fn too_many_names_and_what_is_no_statistic_fail_the_job() {
    let cluster = Cluster::new();
    for (written, options, cause) in [
        ("{a=1;b=2}; {c=3}", "custom_statistics_count_limit=2", "Custom statistics count exceeded"),
        ("{a=text}", "", "Custom statistics /a: an integer is expected, got string"),
        ("{a={b=1.5}}", "", "Custom statistics /a/b: an integer is expected, got double"),
        ("5", "", "Custom statistics /: a map is expected, got int64"),
    ] {
        let id = cluster.start("max_failed_job_count=1", &format!("echo '{written}' >&5"), options);
        assert_eq!(cluster.wait(id).await, "failed", "{written}");
        assert!(
            tree(&cluster.error(id)).ends_with(&format!("1205 User job failed > 1 {cause}")),
            "{written}"
        );
    }
    let id = cluster.start("", "echo '{a=1;b=2}; {b=3}' >&5", "custom_statistics_count_limit=2");
    assert_eq!(cluster.wait(id).await, "completed");
}

#[tokio::test]
async fn a_job_that_fails_with_half_a_statistic_fails_for_its_own_reason() {
    let cluster = Cluster::new();
    let id = cluster.start("max_failed_job_count=1", "echo -n '{a=1};{b' >&5; exit 9", "");
    assert_eq!(cluster.wait(id).await, "failed");
    assert!(tree(&cluster.error(id)).ends_with("10000 Process exited with code 9"));
}
