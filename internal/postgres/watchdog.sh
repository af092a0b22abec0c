# Runs a Postgres server for a program and cleans up after it. Arguments: the folder of the server's programs, the folder
# for socket and log, the data folder, an option for initdb, then the server's settings.
# Standard input comes from the program: one line names the signal that ends the server, the end of the file says that
# the program is gone. Descriptor 3 is held by everything that runs below, so the program can see it end.
bin=$1 run=$2 data=$3 init=$4
shift 4
trap '' HUP INT QUIT TERM # these also reach us when they are meant for the program alone

# Made here, so that nobody can die between making the folder and being able to remove it.
[ -d "$run" ] || mkdir -m 700 "$run" || exit

(
	# A folder with its final name holds a complete cluster.
	if ! [ -d "$data" ]; then
		rm -rf "$data.new"
		"$bin/initdb" --pgdata="$data.new" --username=postgres --auth=trust --encoding=UTF8 --locale=C "$init" || exit
		mv "$data.new" "$data" || exit
	fi
	[ -e "$run/log" ] && exec "$bin/postgres" -D "$data" "$@"
) </dev/null >>"$run/log" 2>&1 &
server=$!
exec 3>&-

if read -r signal; then
	kill -s "$signal" "$server"
	wait "$server"
else
	# A signal does not reach what is just being started. So the folder goes first: nothing starts without it.
	mv "$run" "$run.gone"
	kill -s QUIT 0
	wait "$server"
	rm -rf "$run" "$run.gone" # initdb makes the first again
fi
exit 0
