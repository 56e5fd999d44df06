from sfray.cli import main

main()
