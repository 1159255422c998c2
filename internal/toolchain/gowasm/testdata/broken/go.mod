module hachi.test/broken

go 1.24
