module bine-benches-go

go 1.24
