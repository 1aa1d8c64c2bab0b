# The board straight from the CSV, to check the one that came out of the events:
#
#     unzip -p flights.csv.zip | awk -F, -f flights.awk | LC_ALL=C sort
#
# One line per carrier and per airport of origin:
# flights, cancelled, diverted, departures, minutes late at them, arrivals, minutes late at them.

NR == 1 {
    if ($4 != "dep_time" || $9 != "arr_delay" || $12 != "tailnum" || $13 != "origin") {
        print "not the columns of flights.csv" > "/dev/stderr"
        exit 1
    }
    next
}

{
    sub(/\r$/, "")
    carrier = "carrier " $10
    airport = "airport " $13
    names[carrier]
    names[airport]
    flights[carrier]++
    flights[airport]++
}

# It never departed.
$4 == "NA" {
    cancelled[carrier]++
    cancelled[airport]++
    next
}

{
    departures[carrier]++
    departures[airport]++
    departure_delay[carrier] += $6
    departure_delay[airport] += $6
    # An aircraft that departs again had come down elsewhere.
    if ($12 in air_carrier) {
        diverted[air_carrier[$12]]++
        diverted[air_airport[$12]]++
        delete air_carrier[$12]
        delete air_airport[$12]
    }
}

$9 != "NA" {
    arrivals[carrier]++
    arrivals[airport]++
    arrival_delay[carrier] += $9
    arrival_delay[airport] += $9
    next
}

# It came down, but not where it was going.
$7 != "NA" {
    diverted[carrier]++
    diverted[airport]++
    next
}

# Nobody noted where it came down.
{
    air_carrier[$12] = carrier
    air_airport[$12] = airport
}

END {
    for (name in names)
        printf "%s %d %d %d %d %d %d %d\n", name, flights[name], cancelled[name], diverted[name],
            departures[name], departure_delay[name], arrivals[name], arrival_delay[name]
}
