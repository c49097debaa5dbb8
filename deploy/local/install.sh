#!/bin/bash
# Installs what is missing to build, run, test and lint on Debian 12 or 13, and fetches Kafka's jars and dbmate; says
# nothing and costs nothing when all of it is there.
#
#   deploy/local/install.sh [build] [run] [demo] [sandbox] [test] [lint]    all when none is named; `run` includes Kafka
#
# The jars go to $TENANTRY_CACHE/kafka/libs, by default .run/cache/kafka/libs in the checkout; the tools for lint to
# $TENANTRY_CACHE/lint, and dbmate, which tests compare ours with, to $TENANTRY_CACHE/dbmate.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${TENANTRY_CACHE:-$repository/.run/cache}

build=(gcc libc6-dev make pkg-config libuv1-dev libmicrohttpd-dev libcurl4-openssl-dev libidn2-dev libpq-dev
        librdkafka-dev libjansson-dev libssl-dev libsystemd-dev libunistring-dev uthash-dev)
run=(python3 curl ca-certificates)        # and postgresql, java, maven, which may be there by other names
demo=(kcat jq)                            # what it tells you to try
sandbox=(python3-aiohttp python3-psycopg)
typed=(python3-pytest python3-psycopg python3-aiohttp python3-confluent-kafka python3-cryptography python3-jsonschema
        python3-yaml) # what Python of ours imports: to run it, and to know its types
test=(clang libcmocka-dev ccache kcat jq locales # and what clang's sanitizers link
        alembic python3-psycopg2          # what imported migrations are compared with
        pgbouncer)                        # what tenants may be reached through
lint=(cppcheck python3-venv)              # and one version of the rest for all: lint-tools.txt
kafka_megabytes=60                        # of jars, and what Maven is made of

fail() {
        echo "install.sh: $*" >&2
        exit 1
}

# --- what is there already ---

java_major() { # the major version of the Java in directory $1, or nothing
        local version=
        [ -x "$1/bin/java" ] || return 0
        if [ -r "$1/release" ]; then
                version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$1/release")
        fi
        if [ -z "$version" ]; then
                version=$("$1/bin/java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
        fi
        echo "$version"
}

has_java() { # Kafka 4 needs Java 17
        local home major on_path
        on_path=$(readlink -f "$(command -v java || true)" || true)
        for home in "${JAVA_HOME:-}" /usr/lib/jvm/* "${on_path%/bin/java}"; do
                if [ -z "$home" ]; then
                        continue
                fi
                major=$(java_major "$home")
                if [ -n "$major" ] && [ "$major" -ge 17 ]; then
                        return 0
                fi
        done
        return 1
}

has_postgres() { # any packaged version will do
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

clang_major() { # of Debian's clang: the one installed, or else the one that would be
        local binary
        if binary=$(readlink -e /usr/bin/clang) && [[ $binary =~ llvm-([0-9]+) ]]; then
                echo "${BASH_REMATCH[1]}"
        elif command -v apt-cache >/dev/null; then
                apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1
        fi
}

wanted_packages() { # one name a line, for the groups named
        local group major
        for group in "$@"; do
                case $group in
                build) printf '%s\n' "${build[@]}" ;;
                demo) printf '%s\n' "${demo[@]}" ;;
                sandbox) printf '%s\n' "${sandbox[@]}" ;;
                run)
                        printf '%s\n' "${run[@]}"
                        has_postgres || echo postgresql
                        has_java || echo default-jre-headless
                        command -v mvn >/dev/null || echo maven
                        ;;
                test)
                        printf '%s\n' "${test[@]}" "${typed[@]}"
                        dbmate_is_complete || command -v npm >/dev/null || echo npm
                        major=$(clang_major)
                        if [ -n "$major" ]; then
                                echo "libclang-rt-$major-dev" # without it -fsanitize does not link
                        fi
                        ;;
                lint) printf '%s\n' "${lint[@]}" "${typed[@]}" ;;
                *) fail "no group is called '$group'; there are build, run, demo, sandbox, test and lint" ;;
                esac
        done
}

missing_packages() {
        local wanted installed
        wanted=$(wanted_packages "$@") || exit 1
        installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $wanted 2>/dev/null |
                sed -n 's/ installed$//p' || true)
        comm -23 <(sort -u <<<"$wanted") <(sort -u <<<"$installed")
}

# --- packages ---

as_root=()
drop_in=/etc/postgresql-common/createcluster.d/tenantry-install.conf

remove_drop_in() {
        "${as_root[@]}" rm -f "$drop_in"
        "${as_root[@]}" rmdir --ignore-fail-on-non-empty "${drop_in%/*}"
}

megabytes_of() { # what apt would fetch for these and all they need
        "${as_root[@]}" apt-get -qq -y --no-install-recommends --print-uris install "$@" 2>/dev/null |
                awk '{ bytes += $3 } END { printf "%d", bytes / 1e6 + 0.5 }'
}

kafka_to_fetch() { # for a message
        if [[ " $* " == *" run "* ]] && ! kafka_is_complete; then
                echo ", and some $kafka_megabytes MB for Kafka"
        fi
}

install_packages() {
        local missing

        missing=$(missing_packages "$@")
        if [ -z "$missing" ]; then
                return 0
        fi
        command -v apt-get >/dev/null ||
                fail "no apt-get here; please install by other means:" $missing
        if [ "$(id -u)" -ne 0 ]; then
                as_root=(sudo)
                [ -t 0 ] || as_root=(sudo -n)
                command -v sudo >/dev/null && "${as_root[@]}" true 2>/dev/null ||
                        fail "neither root nor able to use sudo; please have these installed:" $missing
        fi

        "${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=120 update
        missing=$(missing_packages "$@") # again: only now is it known which clang there would be
        echo "installing:" $missing
        echo "to fetch: $(megabytes_of $missing) MB of packages$(kafka_to_fetch "$@")"

        # Debian would start a cluster on 5432 at once. We never use it, and the port is not ours to take. The
        # drop-in goes when we are done, so that a later PostgreSQL finds the machine's own rules.
        "${as_root[@]}" mkdir -p "${drop_in%/*}"
        echo 'create_main_cluster = false' | "${as_root[@]}" tee "$drop_in" >/dev/null
        trap remove_drop_in EXIT
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
                -o DPkg::Lock::Timeout=120 install $missing </dev/null >/dev/null ||
                fail "apt-get could not install:" $missing
        remove_drop_in
        trap - EXIT
}

# --- Kafka ---

kafka_is_complete() { # the rename below is all or nothing, so a look at names is enough
        local sum jar
        cmp -s "$here/kafka/SHA256SUMS" "$cache/kafka/SHA256SUMS" || return 1
        while read -r sum jar; do
                [ -s "$cache/kafka/libs/$jar" ] || return 1
        done <"$here/kafka/SHA256SUMS"
}

fetch_kafka() {
        local fresh said difference

        if kafka_is_complete; then
                return 0
        fi
        mkdir -p "$cache"
        exec 9>"$cache/kafka.lock"
        flock 9
        if kafka_is_complete; then # another install was faster
                return 0
        fi

        echo "fetching Kafka's jars into $cache/kafka: some $kafka_megabytes MB"
        rm -rf "$cache"/kafka.fresh.* # what an interrupted fetch left
        fresh=$(mktemp -d "$cache/kafka.fresh.XXXXXX")
        chmod 755 "$fresh"
        # In the C locale Java finds no path with letters beyond ASCII.
        said=$(LC_ALL=C.UTF-8 mvn -B -q -Dstyle.color=never -f "$here/kafka/pom.xml" dependency:copy-dependencies \
                -DincludeScope=runtime -DoutputDirectory="$fresh/libs" 2>&1) ||
                fail "Maven could not fetch Kafka's jars:"$'\n'"$said"

        (cd "$fresh/libs" && sha256sum -- * | LC_ALL=C sort -k 2) >"$fresh/SHA256SUMS"
        if ! difference=$(diff "$here/kafka/SHA256SUMS" "$fresh/SHA256SUMS"); then
                echo "$difference" | sed -n 's/^</expected/p; s/^>/fetched /p' >&2
                fail "the jars fetched are not the ones in deploy/local/kafka/SHA256SUMS; they stay in" \
                        "$fresh/libs and are not used"
        fi
        rm -rf "$cache/kafka"
        mv -T "$fresh" "$cache/kafka"
}

prepare_kafka_start() { # of the many brokers that tests start each then takes half the time
        mkdir -p "$cache"
        exec 9>"$cache/kafka.lock"
        flock 9
        (cd "$repository" && /usr/bin/python3 -m deploy.local.kafka_start) ||
                echo "install.sh: Kafka will start more slowly" >&2
}

# --- dbmate, the judge of our migrations ---

dbmate_wanted() { # package and checksum for this machine, or nothing
        sed -n "s/^$(uname -m) //p" "$here/dbmate.txt"
}

dbmate_is_complete() { # the rename below is all or nothing
        [ -z "$(dbmate_wanted)" ] ||
                { cmp -s "$here/dbmate.txt" "$cache/dbmate/dbmate.txt" && [ -x "$cache/dbmate/bin/dbmate" ]; }
}

fetch_dbmate() {
        local fresh package sum said

        if dbmate_is_complete; then
                return 0
        fi
        mkdir -p "$cache"
        exec 9>"$cache/dbmate.lock"
        flock 9
        if dbmate_is_complete; then
                return 0
        fi
        read -r package sum <<<"$(dbmate_wanted)"
        echo "fetching dbmate into $cache/dbmate: some 13 MB"
        rm -rf "$cache"/dbmate.fresh.* # what an interrupted fetch left
        fresh=$(mktemp -d "$cache/dbmate.fresh.XXXXXX")
        chmod 755 "$fresh"
        said=$(cd "$fresh" && npm pack --silent "$package" 2>&1) || fail "npm could not fetch $package:"$'\n'"$said"
        sha256sum --quiet -c <<<"$sum  $(echo "$fresh"/*.tgz)" ||
                fail "what was fetched is not the $package of deploy/local/dbmate.txt; it stays in $fresh and is not used"
        tar -xzf "$fresh"/*.tgz -C "$fresh" --strip-components=1
        rm "$fresh"/*.tgz
        cp "$here/dbmate.txt" "$fresh/"
        rm -rf "$cache/dbmate"
        mv -T "$fresh" "$cache/dbmate"
}

# --- what lint needs, one version for all ---

lint_is_complete() { # the list is copied when all of it is there; the rest fails where Python has changed since
        cmp -s "$here/lint-tools.txt" "$cache/lint/lint-tools.txt" &&
                "$cache/lint/bin/python" -c 'import clang_format, mypy, ruff' 2>/dev/null
}

fetch_lint() {
        local said

        if lint_is_complete; then
                return 0
        fi
        mkdir -p "$cache"
        exec 9>"$cache/lint.lock"
        flock 9
        if lint_is_complete; then
                return 0
        fi
        echo "fetching the tools for lint into $cache/lint"
        rm -rf "$cache/lint"
        /usr/bin/python3 -m venv "$cache/lint" # where it stays: it cannot be moved
        said=$("$cache/lint/bin/python" -m pip -q --disable-pip-version-check install -r "$here/lint-tools.txt" 2>&1) ||
                fail "pip could not fetch the tools for lint:"$'\n'"$said"
        cp "$here/lint-tools.txt" "$cache/lint/"
}

if [ $# -eq 0 ]; then
        set -- build run demo sandbox test lint
fi
install_packages "$@"
for group in "$@"; do
        case $group in
        run) fetch_kafka ;;
        test)
                prepare_kafka_start
                fetch_dbmate
                ;;
        lint) fetch_lint ;;
        esac
done
