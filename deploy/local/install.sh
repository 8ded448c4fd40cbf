#!/bin/sh
# Installs what the local stack needs and this machine lacks: Java and Maven (Kafka), VictoriaMetrics, PostgreSQL and amtool from Debian,
# versitygw from deploy/tools, Kafka's jars, and a browser with what drives it for the tests of the page. Run as root on Debian or Ubuntu; quick when all is there.
#
#   deploy/local/install.sh [kafka] [victoria-metrics] [postgres] [s3] [alertmanager] [browser]      without names: all
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
[ $# -gt 0 ] || set -- kafka victoria-metrics postgres s3 alertmanager browser

packages=""
for part in "$@"; do
	case $part in
	kafka)
		command -v java >/dev/null || packages="$packages default-jre-headless"
		command -v mvn >/dev/null || packages="$packages maven"
		;;
	victoria-metrics) command -v victoria-metrics >/dev/null && command -v vmalert >/dev/null || packages="$packages victoria-metrics" ;;
	postgres) ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages="$packages postgresql" ;;
	alertmanager) command -v amtool >/dev/null || packages="$packages prometheus-alertmanager" ;;
	browser)
		command -v npm >/dev/null || packages="$packages nodejs npm"
		command -v chromium >/dev/null || packages="$packages chromium"
		;;
	s3) ;;
	*) echo "usage: $0 [kafka] [victoria-metrics] [postgres] [s3] [alertmanager] [browser]" >&2; exit 2 ;;
	esac
done

# The programs are wanted, not the daemons that the packages would start on their usual ports. policy-rc.d is Debian's way to say so.
policy=/usr/sbin/policy-rc.d
mine=""
unpolicy() { [ -z "$mine" ] || rm -f "$policy"; }

if [ -n "$packages" ]; then
	[ "$(id -u)" = 0 ] || { echo "$0: as root: apt-get install -y --no-install-recommends$packages" >&2; exit 1; }
	command -v apt-get >/dev/null || { echo "$0: no apt-get here; install by hand:$packages" >&2; exit 1; }
	trap unpolicy EXIT
	trap 'exit 1' HUP INT TERM
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
		mine=yes
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt="apt-get -y -q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3"
	ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || $apt update
	# Lists can be older than the mirror: then what they name is gone, and a second try with new ones finds it.
	# shellcheck disable=SC2086
	$apt install --no-install-recommends $packages || { $apt update && $apt install --no-install-recommends $packages; }
fi

for part in "$@"; do
	case $part in
	s3) "$here/../tools/install.sh" versitygw ;;
	browser) (cd "$here/../../services/realtime-api/web" && npm ci --no-audit --no-fund) ;;
	kafka) (cd "$here" && GOWORK=off go run ./cmd/stack fetch) ;;
	esac
done
