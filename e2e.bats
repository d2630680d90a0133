#!/usr/bin/env bats
# The policy from outside: kwctl where it is on PATH, mesa-preview otherwise, which answers as kwctl does.

setup() {
    cd "$BATS_TEST_DIRNAME"
}

# validate CASE [SETTINGS]: the response to a request of test_data, in $output.
validate() {
    local request=test_data/$1/request.json settings=${2:-test_data/$1/settings.json}
    if command -v kwctl >/dev/null; then
        run kwctl run -r "$request" -s "$settings" policy.wasm
    else
        run target/debug/mesa-preview --output response --settings-path "$settings" "$request"
    fi
    # The response is the one line of JSON; kwctl's log goes to stderr, which bats adds.
    response=$(printf '%s\n' "$output" | grep '^{"uid"' || true)
}

# says FILTER: the response is there and the jq filter holds for it.
says() {
    printf '%s' "$response" | jq -e "$1" >/dev/null || {
        printf 'not true: %s\n%s\n' "$1" "$output" >&2
        return 1
    }
}

# patch FILTER: the jq filter holds for the patch.
patch() {
    says ".patchType == \"JSONPatch\""
    printf '%s' "$response" | jq -r .patch | base64 -d | jq -e "$1" >/dev/null
}

settings() {
    printf '%s' "$1" >"$BATS_TEST_TMPDIR/settings.json"
    printf '%s' "$BATS_TEST_TMPDIR/settings.json"
}

@test "a launcher pod gets six volumes, six mounts and a record of it" {
    validate row-10-default
    [ "$status" -eq 0 ]
    says '.allowed and .status == null and .warnings == null'
    says '.auditAnnotations == {injected: "6 mounts in compute"}'
    patch 'length == 13 and all(.op == "add")'
    patch '[.[] | select(.path | startswith("/spec/volumes/")) | .value.name]
        == ["mesa-libgl", "mesa-libegl", "mesa-libglesv2", "mesa-libglx", "mesa-dri", "mesa-egl-vendor"]'
    patch '[.[] | select(.path | startswith("/spec/containers/0/volumeMounts/")) | .value]
        | length == 6 and all(.readOnly)'
}

@test "another pod is not even mentioned" {
    validate row-01-other-labels
    [ "$status" -eq 0 ]
    says '.allowed and .patch == null and .warnings == null and .auditAnnotations == null'
}

@test "an update is none of our business" {
    validate row-01-update
    says '.allowed and .patch == null and .auditAnnotations == null'
}

@test "a pod that has it all stays as it is" {
    validate row-09-all-there
    says '.allowed and .patch == null and .auditAnnotations == null'
}

@test "a malformed pod is accepted with a warning and a record of it" {
    validate row-02-volumes-is-an-object
    says '.allowed and .auditAnnotations["skip-reason"] == "malformed-pod"'
    says '.warnings | length == 1'
    patch 'map(.path) == ["/metadata/annotations/mesa-injector.io~1status"]'
}

@test "a pod that opted out is accepted as it is" {
    validate row-04-disabled
    says '.allowed and .patch == null and .auditAnnotations == {"skip-reason": "opted-out"}'
}

@test "a provisioning pod gets the node selector alone" {
    validate row-05-provisioning-node-selector-missing
    says '.allowed and .auditAnnotations == {"skip-reason": "provisioning-pod"}'
    patch '. == [{op: "add", path: "/spec/nodeSelector", value: {"mesa-injector.io/ready": "true"}}]'
}

@test "a conflict is skipped, recorded and warned of" {
    validate row-07-several-conflicts
    says '.allowed and (.warnings | length == 3 and all(length <= 120))'
    patch 'map(.path) == ["/metadata/annotations/mesa-injector.io~1status"]'
}

@test "a conflict is rejected with every conflict named" {
    validate row-08-several-conflicts
    [ "$status" -eq 0 ]
    says '.allowed == false and .patch == null and .status.code == 409'
    says '.status.message | contains("mesa-libegl") and contains("libGL.so.1") and contains("nodeSelector")'
}

@test "images are mounted as volumes" {
    validate row-10-images
    patch '[.[].value | objects | .image.reference // .subPath] == ["lib", "dri", "registry.example/mesa-el9:25.0"]'
}

@test "lists that are null become lists" {
    validate row-10-lists-null
    patch 'map(.op) | unique == ["replace"]'
}

@test "settings that are wrong are refused with all their problems" {
    validate row-10-default "$(settings '{"hostPath": [], "onConflict": "Reject", "containers": "compute"}')"
    [ "$status" -eq 1 ]
    [[ "$output" == *"Provided settings are not valid: "* ]]
    [[ "$output" == *"hostPath: no such key; did you mean hostPaths?"* ]]
    [[ "$output" == *'onConflict: "Reject" is not one of skip, reject; write reject'* ]]
    [[ "$output" == *'containers: "compute" is not a list'* ]]
}
